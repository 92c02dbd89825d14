// The kernel: the assignment problem for one sample, by bidding and shortest augmenting paths.
//
// Compiled once per instruction set (HUNGARIAN_VARIANT), so it must not instantiate inline code of
// a library: the linker would keep one copy of it for all variants, perhaps the newest one.
//
// Jonker and Volgenant, A shortest augmenting path algorithm for dense and sparse linear assignment
// problems, Computing 38, 1987: column reduction, augmenting row reduction, augmentation. Crouse,
// On implementing 2D rectangular assignment algorithms, IEEE TAES 52(4), 2016: rectangles.
#include "bidding.h"
#include "layout.h"
#include "passes.h"
#include "paths.h"
#include "sample.h"
#include "shortlists.h"

namespace {

template <class T>
int solve_one(const hungarian_batch &problems, int64_t b, Scratch &scratch) {
  return Sample<T>(problems, b, scratch).solve();
}

}  // namespace

namespace hungarian {

SolveOne HUNGARIAN_NAMED(kernel_, HUNGARIAN_VARIANT)(int64_t dtype) {
  return dtype == HUNGARIAN_FLOAT32 ? solve_one<float> : solve_one<double>;
}

}  // namespace hungarian
