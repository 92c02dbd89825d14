// Exponentials, logarithms and sums of logits, in loops that compilers vectorise.
//
// In a namespace without a name: each instruction set that this is compiled for has its own.
#ifndef HUNGARIAN_ELEMENTARY_H
#define HUNGARIAN_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

namespace {

constexpr int64_t LANES = 16;  // sums are kept in lanes, since compilers must not reorder them

// exp(x) for x <= 0, and 0 below the least normal number; NaN stays NaN. Two ulps: the nearest power
// of two, and a polynomial of what is left.
inline float exp_of_negative(float x) {
  const float bounded = x < -87.0f ? -87.0f : x;
  const float shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  int32_t power;
  memcpy(&power, &shifted, sizeof power);
  const float n = shifted - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t scale = (uint32_t(power) + 127u) << 23;
  float factor;
  memcpy(&factor, &scale, sizeof factor);
  return x < -87.0f ? 0.0f : p * factor;
}
inline double exp_of_negative(double x) { return exp(x); }

// log(1 + x) for 0 <= x <= 1, by 2 atanh(x / (2 + x)).
inline float log_of_one_plus(float x) {
  const float s = x / (2.0f + x), t = s * s;
  float p = 1.0f / 15;
  p = p * t + 1.0f / 13;
  p = p * t + 1.0f / 11;
  p = p * t + 1.0f / 9;
  p = p * t + 1.0f / 7;
  p = p * t + 1.0f / 5;
  p = p * t + 1.0f / 3;
  return 2.0f * (s + s * t * p);
}
inline double log_of_one_plus(double x) { return log1p(x); }

// log(x) of normal numbers; NaN stays NaN. x is 2^n m with m between the roots of 1/2 and of 2, and a
// polynomial is the log of m.
inline float log_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const int32_t power = int32_t(bits - 0x3f3504f3u) >> 23;
  bits -= uint32_t(power) << 23;
  float m;
  memcpy(&m, &bits, sizeof m);
  const float r = m - 1.0f, square = r * r, n = float(power);
  float p = 7.0376836292e-2f;
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  const float tail = p * r * square - 2.12194440e-4f * n - 0.5f * square;
  return x != x ? x : r + tail + 0.693359375f * n;
}
inline double log_of(double x) { return log(x); }

template <class T>
struct Sigmoid {
  T p, q, softplus, wrong;  // the probability, 1 - p, -log(1 - p), -log p

  explicit Sigmoid(T x) {
    const T small = exp_of_negative(x < 0 ? x : -x), share = 1 / (1 + small);
    p = x < 0 ? small * share : share;
    q = x < 0 ? share : small * share;
    const T tail = log_of_one_plus(small);
    softplus = tail + (x < 0 ? T(0) : x);
    wrong = tail - (x < 0 ? x : T(0));
  }
};

// weight * x of a loss x, where an infinite one of weight 0 counts as nothing; NaN stays NaN.
template <class T>
inline T times(T weight, T x) {
  return weight == 0 && x == T(INFINITY) ? T(0) : weight * x;
}

template <class T>
inline T absolute(T x) {
  return x < 0 ? -x : x;
}

template <class T>
inline T positive(T x) {
  return x < 0 ? T(0) : x;
}

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
