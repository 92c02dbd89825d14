// Shortest augmenting paths for the bidders that bidding left, one after the other.
//
// In a small problem one warp goes along the lines, in a large one the whole block: all threads
// that take part make the same decisions, by the same numbers.
#ifndef HUNGARIAN_CUDA_PATHS_CUH
#define HUNGARIAN_CUDA_PATHS_CUH

#include "problem.cuh"

namespace hungarian {
namespace device {

template <bool WHOLE_BLOCK>
__device__ inline void together() {
  if (WHOLE_BLOCK) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

// Returns whether all bidders found their way.
template <class T>
template <bool WHOLE_BLOCK>
__device__ bool Problem<T>::search_for_the_rest() {
  const int head = board.head, waiting = board.waiting, deferred = board.deferred;
  for (int k = 0; k < waiting + deferred; ++k) {
    const int root = k < waiting ? queue[(int64_t(head) + k) % bidders] : later[k - waiting];
    if (!search<WHOLE_BLOCK>(root)) return false;
  }
  return true;
}

// Matches a bidder along a shortest path; false if there is none.
template <class T>
template <bool WHOLE_BLOCK>
__device__ bool Problem<T>::search(int root) {
  const int first = WHOLE_BLOCK ? thread : lane, step = WHOLE_BLOCK ? THREADS : 32;
  int i = root, here = NONE, many = 0, end = NONE, leaver = NONE;
  double ahead = 0, level, leave_at = INF;
  for (;;) {
    const Best best = relax<WHOLE_BLOCK>(i, i == root, ahead, here, many & 1);
    level = best.least;
    const double leaving = ahead + price_of(i);
    if (leaving < leave_at) {
      leave_at = leaving;
      leaver = i;
    }
    if (leave_at < level) {
      level = leave_at;
      break;
    }
    if (!(level < INF)) return false;
    const int j = best.at & (TAKEN - 1);
    if (best.at < TAKEN) {
      end = j;
      break;
    }
    here = j;
    i = owner[j];
    ahead = level - (cost_at(i, j) - v[j]);
    together<WHOLE_BLOCK>();  // all have read the dual
    if (first == 0) {
      saved[j] = v[j];
      settled[many] = j;
      v[j] = -INF;
    }
    ++many;
    together<WHOLE_BLOCK>();
  }
  // Distances of settled items have not changed since: nothing is nearer than what is settled.
  for (int k = first; k < many; k += step) {
    const int j = settled[k];
    v[j] = saved[j] + (distance[j] - level);
  }
  together<WHOLE_BLOCK>();
  if (first == 0) hand_over<WHOLE_BLOCK>(root, end, leaver);
  together<WHOLE_BLOCK>();
  return true;
}

// Brings the distances up to date with paths through bidder i, who owns the item `here`, and finds
// the nearest item that is not settled: of equals a free one, then the first.
template <class T>
template <bool WHOLE_BLOCK>
__device__ Best Problem<T>::relax(int i, bool from_root, double ahead, int here, int turn) {
  const int first = WHOLE_BLOCK ? thread : lane, step = WHOLE_BLOCK ? THREADS : 32;
  const T *line = cost + i * down;
  Best best = {INF, INF, NOWHERE};
  for (int j = first; j < items; j += step) {
    const double dual = v[j];
    const double x = heeded(double(line[j * right])) - dual + ahead;
    double known = from_root ? INF : distance[j];
    if (x < known || from_root) {
      known = x < INF ? x : INF;
      distance[j] = known;
      via[j] = here;
    }
    if (dual > -INF) join(best, known, INF, (owner[j] < 0 ? 0 : TAKEN) | j);
  }
  best = of_warp(best);
  if (!WHOLE_BLOCK) return best;
  // Two boards in turn: a warp may be a step ahead of one that still reads.
  if (lane == 0) board.best[turn][warp] = best;
  __syncthreads();
  best = board.best[turn][0];
  for (int w = 1; w < WARPS; ++w) {
    const Best other = board.best[turn][w];
    join(best, other.least, other.second, other.at);
  }
  return best;
}

// Passes items along the path from its end, or from the item of the bidder who leaves, to the root.
template <class T>
template <bool WHOLE_BLOCK>
__device__ void Problem<T>::hand_over(int root, int end, int leaver) {
  if (end == NONE) {
    end = item[leaver];
    item[leaver] = LEFT;
    if (leaver == root) return;
  }
  for (int j = end;;) {
    const int before = via[j], heir = before == NONE ? root : owner[before];
    owner[j] = heir;
    item[heir] = j;
    if (before == NONE) return;
    j = before;
  }
}

}  // namespace device
}  // namespace hungarian

#endif
