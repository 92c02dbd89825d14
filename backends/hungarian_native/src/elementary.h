// Sums of exponentials, probabilities and maxima of logits, in loops that compilers vectorise.
//
// In a namespace without a name: each instruction set that this is compiled for has its own.
#ifndef HUNGARIAN_ELEMENTARY_H
#define HUNGARIAN_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "formulas.h"
#include "lanes.h"

namespace {

constexpr int64_t LANES = 16;  // sums are kept in lanes, since compilers must not reorder them

// The sum of exp(x - max_logit) over classes. What is left of the last block is filled up with nothing:
// by itself, without lanes, it takes longer than all other blocks. Not in double precision, where each
// exponential is a call.
template <class T>
inline T sum_of_exponentials(const T *x, int64_t classes, T max_logit) {
  T lanes[LANES] = {};
  const auto of_block = [&](const T *from) {
    for (int64_t k = 0; k < LANES; ++k) lanes[k] += exp_of_negative(from[k] - max_logit);
  };
  int64_t c = 0;
  for (; c + LANES <= classes; c += LANES) of_block(x + c);
  if (sizeof(T) == sizeof(float) && c < classes) {
    T filled[LANES];
    for (int64_t k = 0; k < LANES; ++k) filled[k] = c + k < classes ? x[c + k] : -T(INFINITY);
    of_block(filled);
    c = classes;
  }
  for (; c < classes; ++c) lanes[c % LANES] += exp_of_negative(x[c] - max_logit);
  T sum = 0;
  for (int64_t k = 0; k < LANES; ++k) sum += lanes[k];
  return sum;
}

// exp(x - log_normaliser) of each class. The last block reaches back: some are computed twice.
template <class T>
inline void probabilities(const T *__restrict x, int64_t classes, T log_normaliser, T *__restrict found) {
  if (sizeof(T) > sizeof(float) || classes < LANES) {
    for (int64_t c = 0; c < classes; ++c) found[c] = exp_of_negative(x[c] - log_normaliser);
    return;
  }
  for (int64_t c = 0; c < classes; c += LANES) {
    const int64_t from = c + LANES <= classes ? c : classes - LANES;
    for (int64_t k = 0; k < LANES; ++k) found[from + k] = exp_of_negative(x[from + k] - log_normaliser);
  }
}

// The greatest of some numbers; NaN if one of them is NaN. In registers, since compilers leave the
// selection that keeps NaN scalar: a pass over logits took twelve times as long as their exponentials.
template <class T>
inline T greatest(const T *x, int64_t count) {
  using V = typename Own<T>::V;
  using Unaligned = typename Own<T>::Unaligned;
  constexpr int64_t width = Own<T>::width;
  if (count < width) {
    T found = -T(INFINITY);
    for (int64_t c = 0; c < count; ++c) {
      if (x[c] != x[c]) return x[c];
      found = x[c] > found ? x[c] : found;
    }
    return found;
  }
  V most = *reinterpret_cast<const Unaligned *>(x + count - width);  // some of them are read twice
  auto flaws = most != most;
  for (int64_t c = 0; c + width < count; c += width) {
    const V next = *reinterpret_cast<const Unaligned *>(x + c);
    flaws |= next != next;
    most = greater(most, next);
  }
  if (bits(flaws)) return T(NAN);
  T lanes[width];
  memcpy(lanes, &most, sizeof lanes);
  for (int64_t half = width / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) {
      lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
    }
  }
  return lanes[0];
}

}  // namespace

#endif
