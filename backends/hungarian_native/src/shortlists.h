// Shortlists: for each bidder the few items that matter, so that a large problem is read about
// twice, not once per step.
#ifndef HUNGARIAN_SHORTLISTS_H
#define HUNGARIAN_SHORTLISTS_H

#include "sample.h"

namespace {

// The least and second slack of a bidder, the second perhaps from below.
template <class T>
Bid Sample<T>::best(int i) {
  if (!shortlists) return least_slacks(line(i));
  bool fresh = length[i] < 0;
  if (fresh) shortlist(i);
  for (;;) {
    const List list = list_of(i);
    F64 slacks[SHORTLIST / WIDTH], x = fill(INF), y = x;
    for (int k = 0; k < list.length; k += WIDTH) {
      const F64 z = slacks[k / WIDTH] = list.slacks(k, v);
      y = lesser(greater(x, z), y);
      x = lesser(z, x);
    }
    Bid bid{INF, INF, 0};
    two_least_lanes(x, y, bid.least, bid.second);
    for (int k = 0; k < list.length; k += WIDTH) {
      if (const unsigned hits = bits(slacks[k / WIDTH] == fill(bid.least))) {
        bid.at = list.items[k + __builtin_ctz(hits)];
        break;
      }
    }
    if (bid.least < bound[i] || fresh) {
      if (bound[i] < bid.second) bid.second = bound[i];
      return bid;
    }
    shortlist(i);
    fresh = true;
  }
}

// Makes the shortlist of a bidder: one pass for the least slack in each lane, the second largest
// of which bounds some 14 items from above (at least 7), and one to collect those.
template <class T>
void Sample<T>::shortlist(int i) {
  const T *costs = line(i);
  const double *const duals = v;  // a member would be read again after every store
  const F64 s = fill(sign);
  F64 lanes = fill(INF), others = lanes;
  const int64_t extent = padded(items);  // a multiple of two registers
  for (int64_t j = 0; j < extent; j += 2 * WIDTH) {
    lanes = lesser(s * load(costs + j) - load(duals + j), lanes);
    others = lesser(s * load(costs + j + WIDTH) - load(duals + j + WIDTH), others);
  }
  lanes = lesser(lanes, others);
  const double least = least_lane(lanes);
  double limit, unused;
  two_least_lanes(-lanes, fill(INF), unused, limit);
  limit = -limit;
  double *out_costs = candidate_cost + int64_t(i) * ROOM;
  int *out = candidate + int64_t(i) * ROOM;
  for (;; limit = least) {
    const F64 most = fill(limit < INF ? limit : LARGEST);
    F64 rest = fill(INF);
    int many = 0;
    int64_t j = 0;
    for (; j < extent && many <= SHORTLIST; j += WIDTH) {
      const F64 cost = s * load(costs + j), x = cost - load(duals + j);
      if (const unsigned hits = bits(x <= most)) {
        many += append(out_costs + many, out + many, cost, int(j), hits);
      }
      rest = lesser(x > most ? x : fill(INF), rest);
    }
    if (many > SHORTLIST) {
      if (limit > least) continue;
      many = SHORTLIST;  // all at the least, which bounds the ones left out as well
      bound[i] = least;
    } else {
      bound[i] = least_lane(rest);
    }
    length[i] = many;
    for (; many % WIDTH; ++many) {
      out[many] = 0;
      out_costs[many] = INF;
    }
    return;
  }
}

// A queue of bidders and items by distance: its least entry is found in two short scans, of the
// least of each 64 and then of those. A heap mispredicts a branch at every level. Bidders lie
// before items, and of equals the first is taken: a whole line may have a free item at the same
// distance.
template <class T>
void Sample<T>::enqueue(int node, double at) {
  if (key[node] == INF) touched[touched_count++] = node;
  key[node] = at;
  double &least = group[node / GROUP];
  least = at < least ? at : least;
}

template <class T>
double Sample<T>::nearest_queued() const {
  F64 least = fill(INF);
  for (int g = 0; g < groups; g += WIDTH) least = lesser(load(group + g), least);
  return least_lane(least);
}

template <class T>
int Sample<T>::dequeue(double nearest) {
  const F64 same = fill(nearest);
  int g = 0;
  unsigned hits;
  while (!(hits = bits(load(group + g) == same))) g += WIDTH;
  g += __builtin_ctz(hits);
  double *keys = key + g * GROUP;
  int k = 0;
  while (!(hits = bits(load(keys + k) == same))) k += WIDTH;
  k += __builtin_ctz(hits);
  keys[k] = GONE;
  F64 least = fill(INF);
  for (int j = 0; j < GROUP; j += WIDTH) {
    const F64 x = load(keys + j);
    least = lesser(x > fill(GONE) ? x : fill(INF), least);
  }
  group[g] = least_lane(least);
  return g * GROUP + k;
}

// As `search`, but a path goes on along shortlists, and along a whole line only where an item
// off the list might be nearer than all that are known.
template <class T>
bool Sample<T>::search_by_lists(int root) {
  if (!queue_ready) {
    queue_ready = true;
    for (int64_t j = 0; j < padded(items); ++j) distance[j] = INF;
    for (int k = 0; k < groups * GROUP; ++k) key[k] = INF;
    for (int g = 0; g < groups; ++g) group[g] = INF;
  }
  const int first_item = int(padded(bidders));
  int many = 0, reached = 0, i = root, free_item = NONE, leaver = NONE;
  int at_hand = 0;  // items no farther than the last: they need no queue
  double level = -INF, ahead = 0, nearest_free = INF, leave_at = INF;
  touched_count = 0;
  auto settle = [&](int j) {
    settled[many++] = j;
    levels[j] = distance[j];
    distance[j] = -INF;  // rounding must not reach it again
  };
  auto arrive = [&](int j, int from, double at) {
    if (distance[j] == INF) reached_items[reached++] = j;
    distance[j] = at;
    via[j] = from;
    if (owner[j] == NONE) {
      nearest_free = at;
      free_item = j;
    } else if (at <= level) {
      settle(j);
      ++at_hand;
    } else {
      enqueue(first_item + j, at);
    }
  };
  auto follow = [&](int from, double at) {
    const List list = list_of(from);
    const F64 shift = fill(at);
    for (int k = 0; k < list.length; k += WIDTH) {
      const F64 x = list.slacks(k, v) + shift;
      unsigned hits = bits((x < gather(distance, list.items + k)) & (x < fill(nearest_free)));
      for (; hits; hits &= hits - 1) {
        const int lane = __builtin_ctz(hits);
        if (x[lane] < nearest_free) arrive(list.items[k + lane], from, x[lane]);
      }
    }
    if (bound[from] + at < nearest_free) {
      if (bound[from] + at <= level) {
        extend_by_line(from, at, nearest_free, arrive);
      } else {
        enqueue(from, bound[from] + at);
      }
    }
  };
  for (;;) {
    if (interrupted()) return false;
    if (length[i] < 0) shortlist(i);
    ++list_steps;
    origin[i] = ahead;
    follow(i, ahead);
    if (price && ahead + price[i] < leave_at) {
      leave_at = ahead + price[i];
      leaver = i;
    }
    if (at_hand == 0) {
      const int before = many;
      while (many == before) {
        const double nearest = nearest_queued();
        if (!(nearest < nearest_free) || leave_at < nearest) break;
        const int top = dequeue(nearest);
        if (top >= first_item) {
          if (distance[top - first_item] == -INF) continue;  // was at hand meanwhile
          level = nearest;
          settle(top - first_item);
          ++at_hand;
          break;
        }
        ++line_steps;
        if (interrupted()) return false;
        const double was = bound[top];
        shortlist(top);  // what was cheap has been taken: see what is now
        if (bound[top] > was) {
          follow(top, origin[top]);
        } else {
          extend_by_line(top, origin[top], nearest_free, arrive);
        }
      }
    }
    if (at_hand == 0 || nearest_free <= level || leave_at < level) break;
    const int j = settled[many - at_hand--];
    i = owner[j];
    ahead = levels[j] - (sign * cost_at(i, j) - v[j]);
  }
  while (touched_count > 0) key[touched[--touched_count]] = INF;
  for (int g = 0; g < groups; ++g) group[g] = INF;
  while (reached > 0) distance[reached_items[--reached]] = INF;
  const bool leaves = leave_at < nearest_free;
  const double stop = leaves ? leave_at : nearest_free;
  if (!(stop < INF)) return false;
  while (many-- > 0) v[settled[many]] += levels[settled[many]] - stop;
  return hand_over(root, leaves ? NONE : free_item, leaver);
}

// Extends paths through bidder i to every item that may lie on the shortest.
template <class T>
template <class F>
void Sample<T>::extend_by_line(int i, double ahead, double &nearest_free, F &arrive) {
  const T *costs = line(i);
  const F64 s = fill(sign), shift = fill(ahead);
  F64 least = fill(INF);
  for (int j = 0; j < items; j += WIDTH) {
    const F64 x = (s * load(costs + j) - load(v + j)) + shift;
    least = lesser(x + load(busy + j), least);
  }
  // No item beyond the nearest free one matters.
  const double limit_here = least_lane(least);
  const F64 limit = fill(limit_here < nearest_free ? limit_here : nearest_free);
  for (int j = 0; j < items; j += WIDTH) {
    const F64 x = (s * load(costs + j) - load(v + j)) + shift;
    unsigned hits = bits((x < load(distance + j)) & (x <= limit));
    for (; hits; hits &= hits - 1) {
      const int k = __builtin_ctz(hits);
      if (x[k] < nearest_free) arrive(j + k, i, x[k]);
    }
  }
}

}  // namespace

#endif
