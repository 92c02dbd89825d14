// What single logits and boxes cost and lose, for CPUs and, compiled by NVRTC, for CUDA devices.
//
// In a namespace without a name: each instruction set that this is compiled for has its own.
#ifndef HUNGARIAN_FORMULAS_H
#define HUNGARIAN_FORMULAS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "hungarian.h"

namespace {

constexpr double TINY = 1e-18;  // what is too small to divide by

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

// What it costs to take a query for an object of the class whose logit is x. Not of
// exp(x - log_normaliser): great logits have log_normalisers too coarse for a probability.
template <class T>
inline T softmax_cost(T weight, T x, T max_logit, T share) {
  return -weight * exp_of_negative(x - max_logit) * share;
}

template <class T>
inline T focal_cost(T weight, T alpha, T x) {
  const Sigmoid<T> s(x);
  const T of_label = alpha * s.q * s.q * s.wrong;
  return weight * (of_label - (1 - alpha) * s.p * s.p * s.softplus);
}

// Where p is 1 to rounding 1 - p is 0, as published: what then ties decides about a matching.
template <class T>
inline T published_focal_cost(T weight, T alpha, T x) {
  const T p = Sigmoid<T>(x).p, not_p = 1 - p, tiny = T(1e-8);
  const T of_label = alpha * not_p * not_p * -log_of(p + tiny);
  return weight * (of_label - (1 - alpha) * p * p * -log_of(not_p + tiny));
}

// What it costs to take a box p for a true one, whose sides count as `width` and `height`, as
// distances_and_overlaps of hungarian_core/costs/boxes.py has it. All by value, and what is the same
// for all boxes outside, or compilers do not vectorise.
template <class T>
inline T box_cost(T bbox, T giou, bool safe, T x, T y, T w, T h, T width, T height, T px, T py, T pw,
                  T ph) {
  const T tiny = T(TINY);
  const T dx = absolute(px - x), dy = absolute(py - y);
  const T distance = dx + dy + absolute(pw - w) + absolute(ph - h);
  const T its_width = safe ? positive(pw) : pw;
  const T its_height = safe ? positive(ph) : ph;
  const T wider = T(0.5) * absolute(its_width - width);
  const T higher = T(0.5) * absolute(its_height - height);
  const T across = T(0.5) * (its_width + width), down = T(0.5) * (its_height + height);
  const T reach_x = dx > wider ? dx : wider, reach_y = dy > higher ? dy : higher;
  const T inner = positive(across - reach_x) * positive(down - reach_y);
  const T hull = (across + reach_x) * (down + reach_y);
  const T joint = its_width * its_height + width * height - inner;
  const T overlap = inner / joint, empty = (hull - joint) / hull;
  const T measure = (safe && joint <= tiny ? T(0) : overlap) - (safe && hull <= tiny ? T(0) : empty);
  return bbox * distance - giou * measure;
}

// The loss of a class that a query is not to say, and its slope.
template <bool constant, class T>
inline T other_loss(T x, T &slope) {
  const Sigmoid<T> s(x);
  const T focus = s.p * s.p, loss = focus * s.softplus;
  // Where q is 0 the loss may be infinite, and what is left of their product is nothing.
  slope = focus * s.p + (constant ? T(0) : 2 * (s.q > 0 ? loss : T(0)) * s.q);
  return loss;
}

// The loss of a query for the class that it is to say, and its slope.
template <class T>
inline T of_label(const hungarian_class_losses &p, T x, T overlap, T &slope) {
  const Sigmoid<T> s(x);
  const T alpha = T(p.alpha);
  if (p.loss == HUNGARIAN_LOSS_FOCAL) {
    const T focus = alpha / (1 - alpha) * s.q * s.q;
    slope = -focus * (2 * times(s.p, s.wrong) + s.q);
    return times(focus, s.wrong);
  }
  if (p.loss == HUNGARIAN_LOSS_VARIFOCAL) {
    const T weight = overlap / alpha;
    slope = weight * (s.p - overlap);
    return times(weight, times(overlap, s.wrong) + times(1 - overlap, s.softplus));
  }
  const double mixed = pow(double(s.p), p.alpha) * pow(double(overlap), 1 - p.alpha);
  const T target = T(mixed < 0.01 ? 0.01 : mixed);
  slope = s.p - target;
  return times(target, s.wrong) + times(1 - target, s.softplus);
}

// An axis of two boxes, and the way back along the operations of boxes/axis_aligned.py in
// hungarian_core: what slopes by the side, the inner and the outer extent make by the centre and the
// side of the first box. The selections are those of the forward pass, so that what is infinite or NaN spreads as it does there.
template <class T>
struct Axis {
  T low, high, side, true_side, reach, inner, outer, unit;
  bool inverted, clipped, lower, higher, at_low, at_high;

  Axis(T centre, T extent, T true_centre, T true_extent, bool safe) {
    const T scale = safe ? T(0.125) : T(1);
    centre *= scale, extent *= scale, true_centre *= scale, true_extent *= scale;
    low = centre - extent * T(0.5), high = centre + extent * T(0.5);
    T true_low = true_centre - true_extent * T(0.5), true_high = true_centre + true_extent * T(0.5);
    inverted = safe && high < low;
    if (inverted) low = high = (low + high) * T(0.5);
    if (safe && true_high < true_low) true_low = true_high = (true_low + true_high) * T(0.5);
    lower = low < true_low, at_low = !lower && !(low > true_low);
    higher = high > true_high, at_high = !higher && !(high < true_high);
    const T low_middle = low * T(0.5) + true_low * T(0.5), high_middle = high * T(0.5) + true_high * T(0.5);
    const T lowest = at_low ? low_middle : lower ? low : true_low;
    const T highest = at_high ? high_middle : higher ? high : true_high;
    reach = (at_high ? high_middle : higher ? true_high : high) - (at_low ? low_middle : lower ? true_low : low);
    const T hull = highest - lowest;
    unit = safe ? (hull <= T(TINY) ? T(1) : hull) : T(1);
    side = (high - low) / unit, true_side = (true_high - true_low) / unit;
    inner = positive(reach) / unit;
    outer = (safe ? hull : positive(hull)) / unit;
    clipped = !safe && hull < 0;
  }

  void back(T by_side, T by_inner, T by_outer, T scale, T &by_centre, T &by_extent) const {
    by_side /= unit, by_inner /= unit, by_outer /= unit;
    if (reach < 0) by_inner = 0;
    if (clipped) by_outer = 0;
    // The lower end of the hull and of what both have in common, and the upper ends.
    const T half = T(0.5);
    T by_low = at_low ? half * -by_outer + half * -by_inner : lower ? -by_outer : -by_inner;
    T by_high = at_high ? half * by_outer + half * by_inner : higher ? by_outer : by_inner;
    by_low -= by_side, by_high += by_side;
    if (inverted) by_low = by_high = half * (by_low + by_high);
    by_centre = (by_low + by_high) * scale;
    by_extent = (by_high - by_low) * half * scale;
  }
};

// The losses of a pair of boxes, the L1 distance and one less the GIoU, and their slopes.
template <class T>
inline void losses_of_pair(const hungarian_box_losses &p, int64_t at) {
  const bool safe = p.safe;
  const T *box = static_cast<const T *>(p.boxes) + at * 4, *truth = static_cast<const T *>(p.true_boxes) + at * 4;
  T *distance_slope = static_cast<T *>(p.distance_slope) + at * 4;
  T *slope = static_cast<T *>(p.apart_slope) + at * 4;
  T distance = 0;
  for (int64_t k = 0; k < 4; ++k) {
    const T difference = box[k] - truth[k];
    distance += absolute(difference);
    distance_slope[k] = difference > 0 ? T(1) : difference < 0 ? T(-1) : T(0);
  }
  static_cast<T *>(p.distance)[at] = distance;

  const Axis<T> x(box[0], box[2], truth[0], truth[2], safe), y(box[1], box[3], truth[1], truth[3], safe);
  const T inner = x.inner * y.inner, hull = x.outer * y.outer;
  const T joint = x.side * y.side + x.true_side * y.true_side - inner;
  const bool flat = safe && joint <= T(TINY), empty = safe && hull <= T(TINY);
  const T overlap = flat ? T(0) : inner / joint, gap = empty ? T(0) : (hull - joint) / hull;
  static_cast<T *>(p.apart)[at] = 1 - (overlap - gap);

  // Of 1 - overlap + gap, by the areas and then by what they are products of.
  T by_inner = flat ? T(0) : -1 / joint, by_joint = flat ? T(0) : overlap / joint, by_hull = 0;
  if (!empty) by_joint -= 1 / hull, by_hull = 1 / hull - gap / hull;
  by_inner -= by_joint;
  const T scale = safe ? T(0.125) : T(1);
  x.back(by_joint * y.side, by_inner * y.inner, by_hull * y.outer, scale, slope[0], slope[2]);
  y.back(by_joint * x.side, by_inner * x.inner, by_hull * x.outer, scale, slope[1], slope[3]);
}

}  // namespace

#endif
