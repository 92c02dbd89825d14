// Shortest augmenting paths for the bidders that bidding left, along whole lines.
#ifndef HUNGARIAN_PATHS_H
#define HUNGARIAN_PATHS_H

#include "sample.h"

namespace {

// Matches bidder `root` along a shortest path; false if there is none.
template <class T>
bool Sample<T>::search(int root) {
  int many = 0, i = root, end = NONE, leaver = NONE;
  double ahead = 0, stop, leave_at = INF;
  for (;;) {
    if (interrupted()) return false;
    const T *costs = line(i);
    double nearest;
    int at = NONE, free_item = NONE;
    if (i == root) {
      relax<true>(costs, 0, i, nearest, at, free_item);
    } else {
      relax<false>(costs, ahead, i, nearest, at, free_item);
    }
    if (price && ahead + price[i] < leave_at) {
      leave_at = ahead + price[i];
      leaver = i;
    }
    if (leave_at < nearest) {
      stop = leave_at;
      break;
    }
    if (!(nearest < INF)) {
      while (many-- > 0) v[settled[many]] = saved[settled[many]];
      return false;
    }
    if (free_item != NONE) {
      stop = nearest;
      end = free_item;
      break;
    }
    settled[many++] = at;
    saved[at] = v[at];
    levels[at] = nearest;
    distance[at] = INF;
    i = owner[at];
    ahead = nearest - (sign * cost_at(i, at) - v[at]);
    v[at] = -INF;
  }
  while (many-- > 0) {
    const int j = settled[many];
    v[j] = saved[j] + (levels[j] - stop);
  }
  return hand_over(root, end, leaver);
}

// Brings the distances up to date with paths through bidder i, and finds the nearest item:
// a free one at the same distance if there is one.
template <class T>
template <bool FROM_ROOT>
void Sample<T>::relax(const T *costs, double ahead, int i, double &nearest, int &at, int &free_item) {
  const F64 s = fill(sign), shift = fill(ahead), up = fill(INF);
  F64 least = up, least_free = up;
  for (int j = 0; j < items; j += WIDTH) {
    F64 x = s * load(costs + j) - load(v + j);
    if (FROM_ROOT) {
      x = lesser(x, up);
      store_where(via + j, I64{} - 1, i);
    } else {
      x += shift;
      const F64 known = load(distance + j);
      store_where(via + j, x < known, i);
      x = lesser(x, known);
    }
    store(distance + j, x);
    least = lesser(x, least);
    least_free = lesser(x + load(busy + j), least_free);
  }
  nearest = least_lane(least);
  if (!(nearest < INF)) return;
  const bool ends = least_lane(least_free) == nearest;
  const F64 same = fill(nearest);
  for (int j = 0;; j += WIDTH) {
    F64 x = load(distance + j);
    if (ends) x += load(busy + j);
    if (const unsigned hits = bits(x == same)) {
      at = j + __builtin_ctz(hits);
      break;
    }
  }
  free_item = ends ? at : NONE;
}

// Passes items along the path from `end`, or from that of the bidder who leaves, to the root.
template <class T>
bool Sample<T>::hand_over(int root, int end, int leaver) {
  if (end == NONE) {
    end = item[leaver];
    item[leaver] = LEFT;
    if (leaver == root) return true;
  }
  for (int j = end;;) {
    const int heir = via[j];
    const int passed = item[heir];
    give(heir, j);
    if (heir == root) return true;
    j = passed;
  }
}

}  // namespace

#endif
