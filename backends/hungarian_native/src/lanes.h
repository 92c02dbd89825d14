// Eight doubles at a time, in the vector extensions of GCC and Clang.
//
// Compilers leave a plain loop for a minimum and its place scalar, because a minimum of values
// that may be infinite or NaN must not be reassociated. Written in lanes it is three times as fast.
//
// Every comparison is `a < b` with the candidate on the left, false for NaN: NaN never wins.
#ifndef HUNGARIAN_LANES_H
#define HUNGARIAN_LANES_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // nothing here is passed across a library

namespace {

constexpr int WIDTH = 8;

typedef double F64 __attribute__((vector_size(64)));
typedef int64_t I64 __attribute__((vector_size(64)));
typedef int32_t I32 __attribute__((vector_size(32)));
typedef float F32 __attribute__((vector_size(32)));
// Costs may lie at any address, even between those of their type.
typedef F64 F64Unaligned __attribute__((aligned(1), may_alias));
typedef F32 F32Unaligned __attribute__((aligned(1), may_alias));

// A full register of the costs' own type, for passes in which no dual takes part.
template <class T>
struct Own;
template <>
struct Own<float> {
  typedef float V __attribute__((vector_size(64)));
  typedef V Unaligned __attribute__((aligned(1), may_alias));
  typedef int32_t Index;
  typedef int32_t I __attribute__((vector_size(64)));
  static constexpr int width = 16;
};
template <>
struct Own<double> {
  typedef F64 V;
  typedef F64Unaligned Unaligned;
  typedef int64_t Index;
  typedef I64 I;
  static constexpr int width = 8;
};

inline F64 fill(double x) { return F64{x, x, x, x, x, x, x, x}; }
inline I64 fill(int64_t x) { return I64{x, x, x, x, x, x, x, x}; }

inline F64 load(const double *p) { return *reinterpret_cast<const F64Unaligned *>(p); }
inline F64 load(const float *p) {
  return __builtin_convertvector(*reinterpret_cast<const F32Unaligned *>(p), F64);
}
// One number, likewise.
template <class T>
inline T read(const void *p) {
  T x;
  memcpy(&x, p, sizeof x);
  return x;
}
inline void store(double *p, F64 x) { *reinterpret_cast<F64Unaligned *>(p) = x; }

// The lanes of a comparison that hold, one bit each. Compilers differ in the type of a comparison.
template <class Mask>
inline unsigned bits(Mask mask) {
  constexpr int LANES = sizeof(mask) / sizeof(mask[0]);
#if defined(__AVX512DQ__)
  if constexpr (LANES == 8) {
    return _mm512_movepi64_mask(__m512i(mask));
  } else {
    return _mm512_movepi32_mask(__m512i(mask));
  }
#elif defined(__AVX2__)
  __m256i half[2];
  memcpy(half, &mask, sizeof mask);
  if constexpr (LANES == 8) {
    return unsigned(_mm256_movemask_pd(__m256d(half[0])) | _mm256_movemask_pd(__m256d(half[1])) << 4);
  } else {
    return unsigned(_mm256_movemask_ps(__m256(half[0])) | _mm256_movemask_ps(__m256(half[1])) << 8);
  }
#else
  unsigned found = 0;
  for (int k = 0; k < LANES; ++k) found |= unsigned(mask[k] & 1) << k;
  return found;
#endif
}

// a < b ? a : b and a > b ? a : b: b where one of them is NaN. One instruction each, which
// compilers do not find in the comparison.
template <class V>
inline V lesser(V a, V b) {
  return a < b ? a : b;
}
template <class V>
inline V greater(V a, V b) {
  return a > b ? a : b;
}
#if defined(__AVX512F__)
inline F64 lesser(F64 a, F64 b) { return F64(_mm512_min_pd(__m512d(a), __m512d(b))); }
inline F64 greater(F64 a, F64 b) { return F64(_mm512_max_pd(__m512d(a), __m512d(b))); }
inline Own<float>::V lesser(Own<float>::V a, Own<float>::V b) {
  return Own<float>::V(_mm512_min_ps(__m512(a), __m512(b)));
}
inline Own<float>::V greater(Own<float>::V a, Own<float>::V b) {
  return Own<float>::V(_mm512_max_ps(__m512(a), __m512(b)));
}
#elif defined(__AVX2__)
template <class Half, class V, class F>
inline V by_halves(V a, V b, F of_two) {
  Half x[2], y[2];
  memcpy(x, &a, sizeof a);
  memcpy(y, &b, sizeof b);
  for (int k = 0; k < 2; ++k) x[k] = of_two(x[k], y[k]);
  memcpy(&a, x, sizeof a);
  return a;
}
inline F64 lesser(F64 a, F64 b) {
  return by_halves<__m256d>(a, b, [](__m256d x, __m256d y) { return _mm256_min_pd(x, y); });
}
inline F64 greater(F64 a, F64 b) {
  return by_halves<__m256d>(a, b, [](__m256d x, __m256d y) { return _mm256_max_pd(x, y); });
}
inline Own<float>::V lesser(Own<float>::V a, Own<float>::V b) {
  return by_halves<__m256>(a, b, [](__m256 x, __m256 y) { return _mm256_min_ps(x, y); });
}
inline Own<float>::V greater(Own<float>::V a, Own<float>::V b) {
  return by_halves<__m256>(a, b, [](__m256 x, __m256 y) { return _mm256_max_ps(x, y); });
}
#endif

// Halves, quarters and neighbours swapped, to reduce all lanes in three steps.
inline F64 swapped(F64 x, int step) {
  if (step == 4) return __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3);
  if (step == 2) return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5);
  return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
}

// The least value of all lanes, none of them NaN.
inline double least_lane(F64 x) {
  for (int step = 4; step > 0; step /= 2) x = lesser(x, swapped(x, step));
  return x[0];
}

// The two least values of all lanes, of each lane's two.
inline void two_least_lanes(F64 x, F64 y, double &least, double &second) {
  for (int step = 4; step > 0; step /= 2) {
    const F64 other = swapped(x, step);
    y = lesser(lesser(y, swapped(y, step)), greater(x, other));
    x = lesser(x, other);
  }
  least = x[0];
  second = y[0];
}
inline void two_least_lanes(Own<float>::V x, Own<float>::V y, double &least, double &second) {
  float halves[2][16];
  memcpy(halves[0], &x, sizeof x);
  memcpy(halves[1], &y, sizeof y);
  const F64 a = load(halves[0]), b = load(halves[0] + 8);
  two_least_lanes(lesser(a, b),
                  lesser(lesser(load(halves[1]), load(halves[1] + 8)), greater(a, b)), least,
                  second);
}

// Eight entries of a table.
inline F64 gather(const double *table, const int32_t *at) {
#if defined(__AVX512F__)
  I32 places;
  memcpy(&places, at, sizeof places);
  return F64(_mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, __m256i(places), table, 8));
#else
  F64 x;
  for (int k = 0; k < WIDTH; ++k) x[k] = table[at[k]];
  return x;
#endif
}

// Appends the lanes of `costs` and their places, from `first`, where `hits` has a bit; may write
// eight entries in any case. Returns how many there are.
inline int append(double *costs_out, int32_t *places_out, F64 costs, int first, unsigned hits) {
#if defined(__AVX512VL__)
  // Compressed in a register: straight to memory is a hundred times slower on some processors.
  const I32 places = I32{0, 1, 2, 3, 4, 5, 6, 7} + first;
  const __m512d x = _mm512_maskz_compress_pd(__mmask8(hits), __m512d(costs));
  const __m256i at = _mm256_maskz_compress_epi32(__mmask8(hits), __m256i(places));
  memcpy(costs_out, &x, sizeof x);
  memcpy(places_out, &at, sizeof at);
  return __builtin_popcount(hits);
#else
  int many = 0;
  for (; hits; hits &= hits - 1) {
    const int k = __builtin_ctz(hits);
    costs_out[many] = costs[k];
    places_out[many++] = first + k;
  }
  return many;
#endif
}

// Writes `x` to the lanes of `to` where the comparison holds.
inline void store_where(int32_t *to, I64 mask, int32_t x) {
#if defined(__AVX512VL__) && defined(__AVX512DQ__)
  _mm256_mask_storeu_epi32(to, __mmask8(bits(mask)), _mm256_set1_epi32(x));
#else
  const I32 narrow = __builtin_convertvector(mask, I32), all = {x, x, x, x, x, x, x, x};
  I32 old;
  memcpy(&old, to, sizeof old);
  old = narrow ? all : old;
  memcpy(to, &old, sizeof old);
#endif
}

}  // namespace

#endif
