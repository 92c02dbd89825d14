// What the solver asks of a kernel: the algorithm for one sample, built once per instruction set.
#ifndef HUNGARIAN_KERNEL_H
#define HUNGARIAN_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "hungarian.h"

namespace hungarian {

// Memory that one thread reuses from sample to sample.
struct Scratch {
  void *state = nullptr;  // O(n + m): duals, owners, queues
  size_t state_bytes = 0;
  void *lines = nullptr;  // O(n m), only where lines of costs are not contiguous
  size_t lines_bytes = 0;
};

// Solves sample b; returns a hungarian_status, or HUNGARIAN_OUT_OF_MEMORY.
using SolveOne = int (*)(const hungarian_batch &problems, int64_t b, Scratch &scratch);

// Computes one scene of a hungarian_pairs or hungarian_grades; returns 0 or
// HUNGARIAN_OUT_OF_MEMORY. `memory` is null at first, for the function to keep memory in.
using OfOneScene = int (*)(const void *arguments, int64_t scene, void **memory);

// All that is compiled for an instruction set, for one dtype.
struct Kernel {
  SolveOne solve;
  OfOneScene price, grade;
};

Kernel kernel_base(int64_t dtype);
#ifdef HUNGARIAN_HAVE_V3
Kernel kernel_v3(int64_t dtype);
#endif
#ifdef HUNGARIAN_HAVE_V4
Kernel kernel_v4(int64_t dtype);
#endif

}  // namespace hungarian

#endif
