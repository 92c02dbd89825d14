// What the solver asks of a kernel: the algorithm for one sample, built once per instruction set.
#ifndef HUNGARIAN_KERNEL_H
#define HUNGARIAN_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "hungarian.h"

// A name with that of the instruction set behind it.
#define HUNGARIAN_JOINED(a, b) a##b
#define HUNGARIAN_NAMED(a, b) HUNGARIAN_JOINED(a, b)

namespace hungarian {

// A count of interrupts, and what it was when the call began; see interrupt.h.
struct Interrupt {
  const uint32_t *count;
  uint32_t before;

  bool came() const { return __atomic_load_n(count, __ATOMIC_RELAXED) != before; }
};

// Memory that one thread reuses from sample to sample, and what can stop it.
struct Scratch {
  Interrupt interrupt;
  void *state = nullptr;  // O(n + m): duals, owners, queues
  size_t state_bytes = 0;
  void *lines = nullptr;  // O(n m), only where lines of costs are not contiguous
  size_t lines_bytes = 0;
};

// Solves sample b; returns a hungarian_status, HUNGARIAN_OUT_OF_MEMORY or HUNGARIAN_INTERRUPTED.
using SolveOne = int (*)(const hungarian_batch &problems, int64_t b, Scratch &scratch);

// Computes one problem of hungarian_matching_costs, hungarian_class_losses or hungarian_box_losses;
// returns 0 or HUNGARIAN_OUT_OF_MEMORY. `memory` is null at first, for the function to keep memory in.
using OfOneProblem = int (*)(const void *arguments, int64_t problem, void **memory);

struct DetectionKernel {
  OfOneProblem matching_cost, class_loss, box_loss;
};

SolveOne kernel_base(int64_t dtype);
DetectionKernel detection_base(int64_t dtype);
#ifdef HUNGARIAN_HAVE_V3
SolveOne kernel_v3(int64_t dtype);
DetectionKernel detection_v3(int64_t dtype);
#endif
#ifdef HUNGARIAN_HAVE_V4
SolveOne kernel_v4(int64_t dtype);
DetectionKernel detection_v4(int64_t dtype);
#endif

}  // namespace hungarian

#endif
