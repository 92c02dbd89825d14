// Detection losses in two steps over the logits of a problem: before the matching what each pair of
// a true object and a query costs, after it the loss of each query and its slope by each logit. And
// the losses of the matched boxes, with their slopes by the predicted ones.
//
// hungarian_core computes the same with the operations of any framework (terms/), which
// is what these results mean. Here nothing in between is written to memory. Loops are plain, over
// queries or classes, for compilers to vectorise: no branches, selections only between values.
//
// Compiled once per instruction set, like kernel.cpp and under the same rule, with -fno-trapping-math:
// without it compilers leave selections scalar. The solver is slower with it, so this is apart.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "elementary.h"
#include "hungarian.h"
#include "kernel.h"

namespace {

constexpr double TINY = 1e-18;  // what is too small to divide by

// The queries of a problem: what they say of classes, and their boxes as one array per number.
template <class T>
class MatchingCost {
 public:
  MatchingCost(const hungarian_matching_costs &p, int64_t problem, T *memory)
      : p_(p), problem_(problem), Q_(p.queries), C_(p.classes),
        logits_(static_cast<const T *>(p.logits) + problem * Q_ * C_),
        max_logit_(static_cast<T *>(p.max_logit) + problem * Q_), log_normaliser_(static_cast<T *>(p.log_normaliser) + problem * Q_),
        picked_(memory), share_(memory + Q_), boxes_(memory + 2 * Q_) {}

  void solve() {
    look();
    if (p_.boxes) unpack();
    for (int64_t m = 0; m < p_.objects; ++m) {
      const int64_t at = problem_ * p_.objects + m;
      T *cost = static_cast<T *>(p_.cost) + at * Q_;
      for (int64_t q = 0; q < Q_; ++q) cost[q] = 0;
      if (!p_.mask[at]) continue;
      if (p_.class_cost && p_.labels[at] >= 0) of_class(p_.labels[at], cost);
      if (p_.boxes) of_box(static_cast<const T *>(p_.true_boxes) + at * 4, cost);
      if (p_.only_finite) {
        for (int64_t q = 0; q < Q_; ++q) cost[q] = cost[q] < T(INFINITY) ? cost[q] : T(NAN);
      }
    }
  }

 private:
  const hungarian_matching_costs &p_;
  const int64_t problem_, Q_, C_;
  const T *const logits_;
  T *const max_logit_, *const log_normaliser_;
  T *const picked_, *const share_, *const boxes_;

  void look() {
    uint8_t *claims = p_.claims_object + problem_ * Q_;
    for (int64_t q = 0; q < Q_; ++q) {
      const T *x = logits_ + q * C_;
      if (p_.softmax) {
        const T objects = greatest(x, C_ - 1), nothing = x[C_ - 1];
        claims[q] = objects >= nothing;
        max_logit_[q] = objects > nothing || objects != objects ? objects : nothing;
        share_[q] = sum_of_exponentials(x, C_, max_logit_[q]);
      } else {
        max_logit_[q] = greatest(x, C_);
        claims[q] = Sigmoid<T>(max_logit_[q]).p > T(0.5);
        log_normaliser_[q] = 0;
      }
    }
    if (!p_.softmax) return;
    T *__restrict const log_normaliser = log_normaliser_, *__restrict const share = share_;
    const T *__restrict const max_logit = max_logit_;
    for (int64_t q = 0; q < Q_; ++q) {
      log_normaliser[q] = max_logit[q] + log_of(share[q]);
      share[q] = 1 / share[q];
    }
  }

  void of_class(int64_t label, T *__restrict cost) const {
    const T weight = T(p_.class_weight), alpha = T(p_.alpha);
    T *__restrict const x = picked_;
    const T *__restrict const log_normaliser = log_normaliser_, *__restrict const max_logit = max_logit_, *__restrict const share = share_;
    for (int64_t q = 0; q < Q_; ++q) x[q] = logits_[q * C_ + label];
    switch (p_.class_cost) {
      case HUNGARIAN_COST_SOFTMAX:
        // Not exp(x - log_normaliser): great logits have log_normalisers too coarse for a probability.
        for (int64_t q = 0; q < Q_; ++q) cost[q] = -weight * exp_of_negative(x[q] - max_logit[q]) * share[q];
        break;
      case HUNGARIAN_COST_NLL:
        for (int64_t q = 0; q < Q_; ++q) cost[q] = weight * (log_normaliser[q] - x[q]);
        break;
      case HUNGARIAN_COST_FOCAL:
        for (int64_t q = 0; q < Q_; ++q) {
          const Sigmoid<T> s(x[q]);
          const T of_label = alpha * s.q * s.q * s.wrong;
          cost[q] = weight * (of_label - (1 - alpha) * s.p * s.p * s.softplus);
        }
        break;
      case HUNGARIAN_COST_FOCAL_PUBLISHED:
        // Where p is 1 to rounding 1 - p is 0, as published: what then ties decides about a matching.
        for (int64_t q = 0; q < Q_; ++q) {
          const T p = Sigmoid<T>(x[q]).p, not_p = 1 - p, tiny = T(1e-8);
          const T of_label = alpha * not_p * not_p * -log_of(p + tiny);
          cost[q] = weight * (of_label - (1 - alpha) * p * p * -log_of(not_p + tiny));
        }
        break;
      default:  // HUNGARIAN_COST_BINARY_NLL
        for (int64_t q = 0; q < Q_; ++q) cost[q] = weight * Sigmoid<T>(x[q]).wrong;
    }
  }

  void unpack() const {
    const T *boxes = static_cast<const T *>(p_.boxes) + problem_ * Q_ * 4;
    for (int64_t q = 0; q < Q_; ++q) {
      for (int64_t k = 0; k < 4; ++k) boxes_[k * Q_ + q] = boxes[q * 4 + k];
    }
  }

  // As distances_and_overlaps of hungarian_core/costs/boxes.py.
  void of_box(const T *truth, T *__restrict cost) const {
    const T bbox = T(p_.bbox_weight), giou = T(p_.giou_weight), tiny = T(TINY);
    const bool safe = p_.safe;
    const T x = truth[0], y = truth[1], w = truth[2], h = truth[3];
    const T width = safe ? positive(w) : w, height = safe ? positive(h) : h;
    const int64_t queries = Q_;
    const T *__restrict px = boxes_, *__restrict py = px + queries, *__restrict pw = py + queries,
                       *__restrict ph = pw + queries;
    for (int64_t q = 0; q < queries; ++q) {
      const T dx = absolute(px[q] - x), dy = absolute(py[q] - y);
      const T distance = dx + dy + absolute(pw[q] - w) + absolute(ph[q] - h);
      const T its_width = safe ? positive(pw[q]) : pw[q];
      const T its_height = safe ? positive(ph[q]) : ph[q];
      const T wider = T(0.5) * absolute(its_width - width);
      const T higher = T(0.5) * absolute(its_height - height);
      const T across = T(0.5) * (its_width + width), down = T(0.5) * (its_height + height);
      const T reach_x = dx > wider ? dx : wider, reach_y = dy > higher ? dy : higher;
      const T inner = positive(across - reach_x) * positive(down - reach_y);
      const T hull = (across + reach_x) * (down + reach_y);
      const T joint = its_width * its_height + width * height - inner;
      const T overlap = inner / joint, empty = (hull - joint) / hull;
      const T measure = (safe && joint <= tiny ? T(0) : overlap) - (safe && hull <= tiny ? T(0) : empty);
      cost[q] += bbox * distance - giou * measure;
    }
  }
};

template <class T>
int costs_of_problem(const void *arguments, int64_t problem, void **memory) {
  const hungarian_matching_costs &p = *static_cast<const hungarian_matching_costs *>(arguments);
  if (!*memory) *memory = malloc(size_t(p.queries ? p.queries : 1) * 6 * sizeof(T));
  if (!*memory) return HUNGARIAN_OUT_OF_MEMORY;
  MatchingCost<T>(p, problem, static_cast<T *>(*memory)).solve();
  return 0;
}

// Sums the losses of classes that a query is not to say, and writes their slopes. What is left of the
// last block is filled up with classes that are certain not to be said, which add nothing: by itself,
// without lanes, it takes longer than all other blocks.
template <bool constant, class T>
inline T of_others(const T *__restrict x, int64_t classes, T *__restrict slope) {
  T lanes[LANES] = {};
  const auto of_block = [&](const T *__restrict from, T *__restrict to) {
    for (int64_t k = 0; k < LANES; ++k) {
      const Sigmoid<T> s(from[k]);
      const T focus = s.p * s.p, loss = focus * s.softplus;
      lanes[k] += loss;
      // Where q is 0 the loss may be infinite, and what is left of their product is nothing.
      to[k] = focus * s.p + (constant ? T(0) : 2 * (s.q > 0 ? loss : T(0)) * s.q);
    }
  };
  const int64_t left = classes % LANES, whole = classes - left;
  for (int64_t c = 0; c < whole; c += LANES) of_block(x + c, slope + c);
  if (left) {
    T filled[LANES], slopes[LANES];
    for (int64_t k = 0; k < LANES; ++k) filled[k] = k < left ? x[whole + k] : -T(INFINITY);
    of_block(filled, slopes);
    memcpy(slope + whole, slopes, size_t(left) * sizeof(T));
  }
  T sum = 0;
  for (int64_t k = 0; k < LANES; ++k) sum += lanes[k];
  return sum;
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

template <class T>
int losses_of_problem(const void *arguments, int64_t problem, void **memory) {
  const hungarian_class_losses &p = *static_cast<const hungarian_class_losses *>(arguments);
  const T *overlaps = static_cast<const T *>(p.overlap), *log_normalisers = static_cast<const T *>(p.log_normaliser);
  const int64_t classes = p.classes;
  if (!*memory) *memory = malloc(size_t(classes) * sizeof(T));
  if (!*memory) return HUNGARIAN_OUT_OF_MEMORY;
  T *row = static_cast<T *>(*memory);
  for (int64_t at = problem * p.queries; at < (problem + 1) * p.queries; ++at) {
    const T *__restrict x = static_cast<const T *>(p.logits) + at * classes;
    T *__restrict slope = static_cast<T *>(p.slope) + at * classes;
    T &value = static_cast<T *>(p.value)[at];
    const int64_t label = p.labels[at];
    if (p.loss == HUNGARIAN_LOSS_SOFTMAX) {
      const T log_normaliser = log_normalisers[at];
      probabilities(x, classes, log_normaliser, slope);
      if (absolute(log_normaliser) > 16) {  // it is too coarse: make the probabilities add up
        T sum = 0;
        for (int64_t c = 0; c < classes; ++c) sum += slope[c];
        for (int64_t c = 0; c < classes; ++c) slope[c] /= sum;
      }
      value = log_normaliser - x[label];
      slope[label] -= 1;
      continue;
    }
    memcpy(row, x, size_t(classes) * sizeof(T));
    if (label >= 0) row[label] = T(-INFINITY);  // certain not to be said, it adds nothing
    value = p.loss == HUNGARIAN_LOSS_VARIFOCAL ? of_others<true>(row, classes, slope)
                                               : of_others<false>(row, classes, slope);
    if (label >= 0) value += of_label(p, x[label], overlaps ? overlaps[at] : T(0), slope[label]);
  }
  return 0;
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

template <class T>
int boxes_of_problem(const void *arguments, int64_t problem, void **) {
  const hungarian_box_losses &p = *static_cast<const hungarian_box_losses *>(arguments);
  const bool safe = p.safe;
  for (int64_t at = problem * p.pairs; at < (problem + 1) * p.pairs; ++at) {
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
  return 0;
}

}  // namespace

namespace hungarian {

DetectionKernel HUNGARIAN_NAMED(detection_, HUNGARIAN_VARIANT)(int64_t dtype) {
  if (dtype == HUNGARIAN_FLOAT32) return {costs_of_problem<float>, losses_of_problem<float>, boxes_of_problem<float>};
  return {costs_of_problem<double>, losses_of_problem<double>, boxes_of_problem<double>};
}

}  // namespace hungarian
