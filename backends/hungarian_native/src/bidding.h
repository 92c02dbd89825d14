// Bidding: column reduction and augmenting row reduction, which match most bidders.
#ifndef HUNGARIAN_BIDDING_H
#define HUNGARIAN_BIDDING_H

#include "sample.h"

namespace {

// Matches all; returns a hungarian_status or NOT_SOUND.
template <class T>
int Sample<T>::attempt() {
  reset();
  const bool may_stay_unmatched = p.unmatched_cost != nullptr;
  if (!may_stay_unmatched) {
    price = nullptr;
  } else if (!read_unmatched_costs()) {
    return HUNGARIAN_INVALID;
  }
  if (valid_items == 0) return may_stay_unmatched ? all_leave() : HUNGARIAN_SOLVED;

  int waiting;
  if (!may_stay_unmatched && count == valid_items) {
    waiting = reduce_columns();
  } else if (along) {
    waiting = bid_along();
  } else {
    waiting = bid_across();
  }
  if (unsound) return NOT_SOUND;
  for (int pass = 0; pass < 2 && waiting > 0; ++pass) waiting = bid(waiting);
  if (stopped) return HUNGARIAN_INTERRUPTED;
  if (beyond) return BEYOND;

  // A step along a list takes some 60 ns and along a line 30 + 0.4 ns per item: where many lists
  // fail, as they do for products of two factors, whole lines are faster.
  const double patience = 0.5 - 40 / (30 + 0.4 * items);
  for (int k = 0; k < waiting; ++k) {
    const bool look = shortlists && !(line_steps > 64 && line_steps > patience * list_steps);
    if (look ? !search_by_lists(queue[k]) : !search(queue[k])) return HUNGARIAN_INFEASIBLE;
  }
  return HUNGARIAN_SOLVED;
}

template <class T>
void Sample<T>::reset() {
  int valid = 0;
  for (int i = 0; i < bidders; ++i) {
    item[i] = NONE;
    if (!bidder_mask || bidder_mask[i]) ids[valid++] = i;
  }
  const I32 nobody = I32{} + NONE;
  for (int j = 0; j < items; j += WIDTH) {
    memcpy(owner + j, &nobody, sizeof nobody);
    store(busy + j, F64{});
    store(v + j, F64{});
  }
  for (int64_t j = items; j < padded(items); ++j) {
    v[j] = -INF;
    busy[j] = INF;
  }
  for (int j = 0; item_mask && j < items; ++j) {
    if (!item_mask[j]) v[j] = -INF;
  }
  for (int k = 0; k * BLOCK < bidders; ++k) ready[k] = 0;
  if (shortlists) {
    for (int i = 0; i < bidders; ++i) length[i] = NONE;
  }
  queue_ready = unsound = beyond = false;
}

// Without items every bidder leaves at its price.
template <class T>
int Sample<T>::all_leave() {
  for (int k = 0; k < count; ++k) {
    if (!(price[ids[k]] < INF)) return HUNGARIAN_INFEASIBLE;
    item[ids[k]] = LEFT;
  }
  return HUNGARIAN_SOLVED;
}

// The valid bidders' prices; false if one cannot be compared.
template <class T>
bool Sample<T>::read_unmatched_costs() {
  const T *from = static_cast<const T *>(p.unmatched_cost) + sample * p.unmatched_cost_strides[0];
  for (int k = 0; k < count; ++k) {
    const double x = sign * double(read<T>(from + ids[k] * p.unmatched_cost_strides[1]));
    if (!(-INF < x)) return false;
    price[ids[k]] = x;
  }
  return true;
}

// Square: each item starts at its least cost, and goes to the bidder who has it.
template <class T>
int Sample<T>::reduce_columns() {
  // Plus 0, since of 0 and -0 either may be the least.
  auto start = [this](int j, double least, int i) {
    v[j] = least + 0.0;
    if (item[i] == NONE) give(i, j);
  };
  if (along) {
    if (!least_per_column(item_mask, bidder_mask)) return 0;
    for (int j = 0; j < items; ++j) {
      if ((!item_mask || item_mask[j]) && low[j] < INF) start(j, double(low[j]), int(place[j]));
    }
  } else {
    flag_valid(bidder_mask);
    for (int j = 0; j < items; ++j) {
      if (item_mask && !item_mask[j]) continue;
      if (interrupted()) return 0;
      const Bid bid = bidder_mask ? two_least<true>(row(j)) : two_least<false>(row(j));
      if (unsound) return 0;
      if (bid.least < INF) start(j, bid.least, bid.at);
    }
  }
  int waiting = 0;
  for (int k = 0; k < count; ++k) {
    const int i = ids[k], j = item[i];
    if (j == NONE) {
      queue[waiting++] = i;
      continue;
    }
    if (items <= 2 * WIDTH) continue;  // as many scans as they save
    if (interrupted()) return 0;
    // Reduction transfer: the holder raises its bid to its second best at once.
    const Bid bid = best(i);
    const double second = bid.at == j ? bid.second : bid.least;
    if (second < INF && second > 0) lower(j, second);
  }
  return waiting;
}

// Notes in `low` which columns of the table count, for `two_least`.
template <class T>
void Sample<T>::flag_valid(const uint8_t *mask) {
  if (!mask) return;
  for (int64_t c = 0; c < padded(width); ++c) low[c] = c < width && mask[c] ? T(0) : T(INF);
}

// First bids of bidders whose lines are rows, in the costs' own type; returns who waits.
template <class T>
int Sample<T>::bid_along() {
  flag_valid(item_mask);
  int waiting = 0;
  for (int k = 0; k < count; ++k) {
    const int i = ids[k];
    if (interrupted()) return 0;
    const Bid bid = item_mask ? two_least<true>(row(i)) : two_least<false>(row(i));
    if (unsound) return 0;
    if (!claim(i, bid)) queue[waiting++] = i;
  }
  return waiting;
}

// First bids of bidders whose lines are columns, all columns in one pass along the rows.
template <class T>
int Sample<T>::bid_across() {
  if (!least_per_column(bidder_mask, item_mask)) return 0;
  int waiting = 0;
  for (int k = 0; k < count; ++k) {
    const int i = ids[k];
    const Bid bid{double(low[i]), double(next[i]), int(place[i])};
    if (!claim(i, bid)) queue[waiting++] = i;
  }
  return waiting;
}

// A bid of one who has not looked at the duals: good if the item is still free, because then
// no dual that it compared has changed but those of others' items, for the worse.
template <class T>
bool Sample<T>::claim(int i, const Bid &bid) {
  if (price && price[i] < bid.least) {
    if (!(price[i] < INF)) return false;
    item[i] = LEFT;
    return true;
  }
  if (!(bid.least < INF) || owner[bid.at] != NONE) return false;
  double second = bid.second;
  if (price && price[i] < second) second = price[i];
  if (second < INF) lower(bid.at, second - bid.least);
  give(i, bid.at);
  return true;
}

// Augmenting row reduction: who is waiting bids for its best item, up to its second best, and
// the displaced bids next. Near-ties could go on for ever: the steps are bounded.
template <class T>
int Sample<T>::bid(int waiting) {
  int64_t budget = 2 * int64_t(count) + 16;
  int left = 0;
  for (int k = 0; k < waiting; ++k) {
    int i = queue[k];
    for (;;) {
      if (interrupted()) return 0;
      const Bid bid = best(i);
      if (price && price[i] < bid.least) {
        item[i] = LEFT;
        break;
      }
      double second = bid.second;
      if (price && price[i] < second) second = price[i];
      int j = bid.at;
      if (!(bid.least < INF)) {
        queue[left++] = i;
        break;
      }
      const int holder = owner[j];
      if (bid.least < second && second < INF) {
        lower(j, second - bid.least);
        give(i, j);
        if (holder == NONE) break;
        item[holder] = NONE;
        if (--budget <= 0) {
          queue[left++] = holder;
          break;
        }
        i = holder;
        continue;
      }
      // A tie: a free item ends it; an owner is left in peace.
      if (holder != NONE) j = free_at(i, bid.least);
      if (j == NONE) {
        queue[left++] = i;
      } else {
        give(i, j);
      }
      break;
    }
  }
  return left;
}

}  // namespace

#endif
