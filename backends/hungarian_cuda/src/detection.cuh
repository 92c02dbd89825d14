// The passes of detection losses: what matching costs, the losses of classes, the losses of boxes.
//
// As detection.cpp of the native library has them, by the same formulas; sums over classes are of a
// warp here, so their last digits differ.
#ifndef HUNGARIAN_CUDA_DETECTION_CUH
#define HUNGARIAN_CUDA_DETECTION_CUH

#include "formulas.h"
#include "plan.h"
#include "problem.cuh"

namespace hungarian {
namespace device {

template <class T>
__device__ inline T sum_of_warp(T x) {
  for (int step = 16; step; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
  return x;
}

// NaN if one of them is NaN.
template <class T>
__device__ inline T greater_of(T x, T y) {
  return y > x || y != y ? y : x;
}

// What the warps of a block found out about the queries of its tile.
template <class T>
struct Tile {
  T max_logit[TILE], log_normaliser[TILE], share[TILE];
};

// A warp looks at the classes of a query.
template <class T>
__device__ inline void look(const hungarian_matching_costs &p, int64_t at, int k, int lane, Tile<T> &tile) {
  const T *x = static_cast<const T *>(p.logits) + at * p.classes;
  T most = -T(INF);
  for (int64_t c = lane; c < p.classes - p.softmax; c += 32) most = greater_of(most, x[c]);
  for (int step = 16; step; step >>= 1) most = greater_of(most, __shfl_xor_sync(ALL, most, step));
  T log_normaliser = 0, share = 0;
  bool claims;
  if (p.softmax) {
    const T nothing = x[p.classes - 1];
    claims = most >= nothing;
    most = most > nothing || most != most ? most : nothing;
    T sum = 0;
    for (int64_t c = lane; c < p.classes; c += 32) sum += exp_of_negative(x[c] - most);
    sum = sum_of_warp(sum);
    log_normaliser = most + log_of(sum);
    share = 1 / sum;
  } else {
    claims = Sigmoid<T>(most).p > T(0.5);
  }
  if (lane) return;
  tile.max_logit[k] = static_cast<T *>(p.max_logit)[at] = most;
  tile.log_normaliser[k] = static_cast<T *>(p.log_normaliser)[at] = log_normaliser;
  tile.share[k] = share;
  p.claims_object[at] = claims;
}

template <class T>
__device__ inline T class_cost(const hungarian_matching_costs &p, T x, int k, const Tile<T> &tile) {
  const T weight = T(p.class_weight), alpha = T(p.alpha);
  switch (p.class_cost) {
    case HUNGARIAN_COST_SOFTMAX:
      return softmax_cost(weight, x, tile.max_logit[k], tile.share[k]);
    case HUNGARIAN_COST_NLL:
      return weight * (tile.log_normaliser[k] - x);
    case HUNGARIAN_COST_FOCAL:
      return focal_cost(weight, alpha, x);
    case HUNGARIAN_COST_FOCAL_PUBLISHED:
      return published_focal_cost(weight, alpha, x);
    default:  // HUNGARIAN_COST_BINARY_NLL
      return weight * Sigmoid<T>(x).wrong;
  }
}

// A block has a tile of queries of a problem: first a warp for each query, then a lane for each
// query, and the warps share the objects.
template <class T>
__device__ void matching_costs(const hungarian_matching_costs &p, Tile<T> &tile) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t tiles = tiles_of(p.queries), problem = blockIdx.x / tiles;
  const int64_t first = blockIdx.x % tiles * TILE, before = problem * p.queries + first;
  const int here = int(p.queries - first < TILE ? p.queries - first : TILE);
  for (int k = warp; k < here; k += WARPS) look(p, before + k, k, lane, tile);
  __syncthreads();

  if (lane >= here) return;
  const int64_t at = before + lane;
  const T *logits = static_cast<const T *>(p.logits) + at * p.classes;
  T box[4] = {};
  if (p.boxes) {
    for (int i = 0; i < 4; ++i) box[i] = static_cast<const T *>(p.boxes)[at * 4 + i];
  }
  for (int64_t m = warp; m < p.objects; m += WARPS) {
    const int64_t object = problem * p.objects + m;
    T cost = 0;
    if (p.mask[object]) {
      const int64_t label = p.labels[object];
      if (p.class_cost && label >= 0) cost = class_cost(p, logits[label], lane, tile);
      if (p.boxes) {
        const T *truth = static_cast<const T *>(p.true_boxes) + object * 4;
        const T w = truth[2], h = truth[3], width = p.safe ? positive(w) : w;
        const T height = p.safe ? positive(h) : h;
        cost += box_cost(T(p.bbox_weight), T(p.giou_weight), bool(p.safe), truth[0], truth[1], w, h, width,
                         height, box[0], box[1], box[2], box[3]);
      }
      if (p.only_finite && !(cost < T(INF))) cost = T(INF) - T(INF);  // NaN
    }
    static_cast<T *>(p.cost)[object * p.queries + first + lane] = cost;
  }
}

// A warp has a query, a lane every 32nd of its classes.
template <class T>
__device__ void class_losses(const hungarian_class_losses &p) {
  const int lane = threadIdx.x % 32;
  const int64_t at = int64_t(blockIdx.x) * WARPS + threadIdx.x / 32;
  if (at >= p.problems * p.queries) return;
  const T *x = static_cast<const T *>(p.logits) + at * p.classes;
  T *slope = static_cast<T *>(p.slope) + at * p.classes;
  T &value = static_cast<T *>(p.value)[at];
  const int64_t label = p.labels[at];
  T sum = 0;
  if (p.loss == HUNGARIAN_LOSS_SOFTMAX) {
    const T log_normaliser = static_cast<const T *>(p.log_normaliser)[at];
    for (int64_t c = lane; c < p.classes; c += 32) sum += slope[c] = exp_of_negative(x[c] - log_normaliser);
    if (absolute(log_normaliser) > 16) {  // it is too coarse: make the probabilities add up
      sum = sum_of_warp(sum);
      for (int64_t c = lane; c < p.classes; c += 32) slope[c] /= sum;
    }
    if (label % 32 != lane) return;
    value = log_normaliser - x[label];
    slope[label] -= 1;
    return;
  }
  const bool constant = p.loss == HUNGARIAN_LOSS_VARIFOCAL;
  for (int64_t c = lane; c < p.classes; c += 32) {
    if (c == label) continue;
    sum += constant ? other_loss<true>(x[c], slope[c]) : other_loss<false>(x[c], slope[c]);
  }
  sum = sum_of_warp(sum);
  if ((label < 0 ? 0 : label) % 32 != lane) return;
  if (label >= 0) {
    const T overlap = p.overlap ? static_cast<const T *>(p.overlap)[at] : T(0);
    sum += of_label(p, x[label], overlap, slope[label]);
  }
  value = sum;
}

// A thread has a pair.
template <class T>
__device__ void box_losses(const hungarian_box_losses &p) {
  const int64_t at = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (at < p.problems * p.pairs) losses_of_pair<T>(p, at);
}

}  // namespace device
}  // namespace hungarian

#endif
