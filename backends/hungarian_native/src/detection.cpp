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
        for (int64_t q = 0; q < Q_; ++q) cost[q] = softmax_cost(weight, x[q], max_logit[q], share[q]);
        break;
      case HUNGARIAN_COST_NLL:
        for (int64_t q = 0; q < Q_; ++q) cost[q] = weight * (log_normaliser[q] - x[q]);
        break;
      case HUNGARIAN_COST_FOCAL:
        for (int64_t q = 0; q < Q_; ++q) cost[q] = focal_cost(weight, alpha, x[q]);
        break;
      case HUNGARIAN_COST_FOCAL_PUBLISHED:
        for (int64_t q = 0; q < Q_; ++q) cost[q] = published_focal_cost(weight, alpha, x[q]);
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

  void of_box(const T *truth, T *__restrict cost) const {
    const T bbox = T(p_.bbox_weight), giou = T(p_.giou_weight);
    const bool safe = p_.safe;
    const T x = truth[0], y = truth[1], w = truth[2], h = truth[3];
    const T width = safe ? positive(w) : w, height = safe ? positive(h) : h;
    const int64_t queries = Q_;
    const T *__restrict px = boxes_, *__restrict py = px + queries, *__restrict pw = py + queries,
                       *__restrict ph = pw + queries;
    for (int64_t q = 0; q < queries; ++q) {
      cost[q] += box_cost(bbox, giou, safe, x, y, w, h, width, height, px[q], py[q], pw[q], ph[q]);
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
      T by_logit;
      lanes[k] += other_loss<constant>(from[k], by_logit);
      to[k] = by_logit;
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

template <class T>
int boxes_of_problem(const void *arguments, int64_t problem, void **) {
  const hungarian_box_losses &p = *static_cast<const hungarian_box_losses *>(arguments);
  for (int64_t at = problem * p.pairs; at < (problem + 1) * p.pairs; ++at) losses_of_pair<T>(p, at);
  return 0;
}

}  // namespace

namespace hungarian {

DetectionKernel HUNGARIAN_NAMED(detection_, HUNGARIAN_VARIANT)(int64_t dtype) {
  if (dtype == HUNGARIAN_FLOAT32) return {costs_of_problem<float>, losses_of_problem<float>, boxes_of_problem<float>};
  return {costs_of_problem<double>, losses_of_problem<double>, boxes_of_problem<double>};
}

}  // namespace hungarian
