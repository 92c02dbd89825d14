// Where the costs and the working memory of a sample lie, and how its results are written.
#ifndef HUNGARIAN_LAYOUT_H
#define HUNGARIAN_LAYOUT_H

#include <stdlib.h>
#include <string.h>

#include "sample.h"

namespace {

inline bool reserve(void *&block, size_t &have, size_t want) {
  if (have >= want) return true;
  free(block);
  have = 0;
  if (posix_memalign(&block, 64, want) != 0) {
    block = nullptr;
    return false;
  }
  have = want;
  return true;
}

// Chooses the sides and finds room; false if there is none.
template <class T>
bool Sample<T>::prepare() {
  const int n = int(p.n), m = int(p.m);
  const uint8_t *row_mask = p.row_mask ? p.row_mask + sample * p.n : nullptr;
  const uint8_t *col_mask = p.col_mask ? p.col_mask + sample * p.m : nullptr;
  const int valid_rows = count_valid(row_mask, n), valid_cols = count_valid(col_mask, m);
  const int64_t down = p.cost_strides[1], right = p.cost_strides[2];
  turned = right != 1 && down == 1;
  // Not by how the costs lie: which of several optima is found must not depend on that.
  rows_bid = p.unmatched_cost || valid_rows <= valid_cols;
  along = rows_bid != turned;
  bidders = rows_bid ? n : m;
  items = rows_bid ? m : n;
  bidder_mask = rows_bid ? row_mask : col_mask;
  item_mask = rows_bid ? col_mask : row_mask;
  count = rows_bid ? valid_rows : valid_cols;
  valid_items = rows_bid ? valid_cols : valid_rows;
  shortlists = valid_items >= 96 && count >= 48;  // below, a list costs what it saves

  table = static_cast<const T *>(p.cost) + sample * p.cost_strides[0];
  height = turned ? m : n;
  width = turned ? n : m;
  stride = turned ? right : down;
  const size_t needed = lay_out(reinterpret_cast<uintptr_t>(scratch.state));
  if (needed > scratch.state_bytes) {  // where the sample is not like the ones before
    if (!reserve(scratch.state, scratch.state_bytes, needed)) return false;
    lay_out(reinterpret_cast<uintptr_t>(scratch.state));
  }

  // Lines must be contiguous, not overlap, and be long enough to be read beyond their end.
  const bool straight = (turned ? down : right) == 1 && stride >= width && width >= WIDTH;
  const size_t transposed = along ? 0 : size_t(bidders * padded(items));
  const size_t copied = straight ? 0 : size_t(height * padded(width));
  const size_t bytes = sizeof(T) * (transposed + copied);
  if (!reserve(scratch.lines, scratch.lines_bytes, bytes)) return false;
  lines = static_cast<T *>(scratch.lines);
  if (height == 0 || width == 0) return true;
  if (straight) {
    copy_last();
  } else {
    copy_through(lines + transposed, down, right, [](T x) { return x; });
  }
  return !stopped;
}

// Places the fields from an address on; returns how many bytes they take. Each is a multiple of
// 64 bytes long but the last.
template <class T>
size_t Sample<T>::lay_out(uintptr_t base) {
  const size_t i = padded(items), k = padded(bidders), w = padded(width);
  size_t offset = 0;
  auto take = [&](auto *&field, size_t many) {
    field = reinterpret_cast<__typeof__(field)>(base + offset);
    offset += many * sizeof(*field);
  };
  take(v, i);
  take(busy, i);
  take(distance, i);
  take(levels, i);
  take(saved, i);
  take(owner, i);
  take(via, i);
  take(settled, i);
  take(price, k);
  take(item, k);
  take(queue, k);
  take(ids, k);
  take(low, w);
  take(next, w);
  take(place, w);
  take(last, w);
  if (shortlists) {
    groups = int((i + k + GROUP * WIDTH - 1) / (GROUP * WIDTH)) * WIDTH;
    take(candidate_cost, k * ROOM);
    take(candidate, k * ROOM);
    take(length, k);
    take(bound, k);
    take(origin, k);
    take(key, size_t(groups) * GROUP);
    take(group, size_t(groups));
    take(touched, i + k);
    take(reached_items, i);
  }
  take(ready, k);
  return offset;
}

template <class T>
int Sample<T>::count_valid(const uint8_t *mask, int extent) {
  if (!mask) return extent;
  int valid = 0;
  for (int k = 0; k < extent; ++k) valid += mask[k] != 0;
  return valid;
}

template <class T>
void Sample<T>::copy_last() {
  memcpy(last, table + (height - 1) * stride, size_t(width) * sizeof(T));
  for (int64_t c = width; c < padded(width); ++c) last[c] = 0;
}

// Copies the costs to contiguous rows, each through a function; the table is the copy then.
template <class T>
template <class F>
void Sample<T>::copy_through(T *to, int64_t down, int64_t right, F through) {
  const int64_t length = padded(width);
  const int64_t outer = turned ? right : down, inner = turned ? down : right;
  for (int r = 0; r < height; ++r) {
    if (interrupted()) return;
    for (int c = 0; c < width; ++c) {
      to[r * length + c] = through(read<T>(table + r * outer + c * inner));
    }
    for (int64_t c = width; c < length; ++c) to[r * length + c] = 0;
  }
  table = to;
  stride = length;
  copy_last();
}

// Transposes the lines of a block of bidders.
template <class T>
void Sample<T>::transpose(int block) {
  ready[block] = 1;
  const int64_t length = padded(items);
  const int from = block * BLOCK;
  T *out = lines + from * length;
  auto move = [&](int many) {
    for (int j = 0; j < items; ++j) {
      const T *in = row(j) + from;
      for (int k = 0; k < many; ++k) out[k * length + j] = read<T>(in + k);
    }
    for (int k = 0; k < many; ++k) {
      for (int64_t j = items; j < length; ++j) out[k * length + j] = 0;
    }
  };
  if (bidders - from >= BLOCK) {
    move(BLOCK);  // a constant: unrolled
  } else {
    move(bidders - from);
  }
}

// nan="worst": NaN becomes the worst, -inf the best of the finite valid costs.
template <class T>
bool Sample<T>::repair() {
  const uint8_t *height_mask = along ? bidder_mask : item_mask;
  const uint8_t *width_mask = along ? item_mask : bidder_mask;
  double best = INF, worst = -INF;
  for (int r = 0; r < height; ++r) {
    if (height_mask && !height_mask[r]) continue;
    if (interrupted()) return false;
    const T *costs = row(r);
    for (int c = 0; c < width; ++c) {
      const double x = sign * double(read<T>(costs + c));
      if ((width_mask && !width_mask[c]) || !(x - x == 0)) continue;
      if (x < best) best = x;
      if (worst < x) worst = x;
    }
  }
  if (worst < best) best = worst = 0;
  // Not in the scratch there is: the costs may lie in it.
  Scratch fresh;
  const size_t transposed = along ? 0 : size_t(bidders * padded(items));
  const size_t bytes = sizeof(T) * (transposed + size_t(height * padded(width)));
  if (!reserve(fresh.lines, fresh.lines_bytes, bytes)) return false;
  lines = static_cast<T *>(fresh.lines);
  const T nan = T(sign * worst), infinite = T(sign * best);
  const T lowest = T(-sign * INF);
  const int64_t down = turned ? 1 : stride, right = turned ? stride : 1;
  copy_through(lines + transposed, down, right,
               [=](T x) { return x != x ? nan : x == lowest ? infinite : x; });
  free(scratch.lines);
  scratch.lines = fresh.lines;
  scratch.lines_bytes = fresh.lines_bytes;
  return !stopped;
}

// Whether a number beyond the largest may have stood for an entry or a path: if so, the solution
// shows it by a large dual or cost, or there is none.
template <class T>
bool Sample<T>::may_have_overflowed(int status) const {
  if (stopped || status == NOT_SOUND || status == HUNGARIAN_INVALID) return false;
  if (status == HUNGARIAN_INFEASIBLE) return has_large_entries();
  bool small = true;
  for (int j = 0; j < items; ++j) {
    const double dual = item_mask && !item_mask[j] ? 0 : v[j];
    small &= -LARGE < dual && dual < LARGE;
  }
  for (int k = 0; k < count; ++k) {
    const int i = ids[k];
    if (item[i] == NONE) continue;
    const double cost = item[i] == LEFT ? price[i] : double(cost_at(i, item[i]));
    small &= -LARGE < cost && cost < LARGE;
  }
  return !small;
}

template <class T>
bool Sample<T>::has_large_entries() const {
  const uint8_t *height_mask = along ? bidder_mask : item_mask;
  for (int r = 0; r < height; ++r) {
    if (height_mask && !height_mask[r]) continue;
    const T *costs = row(r);
    bool large = false;
    for (int c = 0; c < width; ++c) {
      const double x = double(read<T>(costs + c));
      large |= (x >= LARGE || x <= -LARGE) && x - x == 0;
    }
    if (large) return true;
  }
  for (int k = 0; price && k < count; ++k) {
    if (price[ids[k]] < INF && (price[ids[k]] >= LARGE || price[ids[k]] <= -LARGE)) return true;
  }
  return false;
}

template <class T>
void Sample<T>::write(int status) const {
  if (p.index_bits == 32) {
    write_matches<int32_t>(status);
  } else {
    write_matches<int64_t>(status);
  }
  T *u_out = static_cast<T *>(rows_bid ? p.u : p.v) + sample * bidders;
  T *v_out = static_cast<T *>(rows_bid ? p.v : p.u) + sample * items;
  p.status[sample] = uint8_t(status);
  T *total_out = static_cast<T *>(p.total) + sample;
  if (status != HUNGARIAN_SOLVED) {
    const T nan = T(__builtin_nan(""));
    for (int i = 0; i < bidders; ++i) u_out[i] = nan;
    for (int j = 0; j < items; ++j) v_out[j] = nan;
    *total_out = nan;
    return;
  }
  const double back = 1 / sign;
  double total = 0, lost = 0;  // Neumaier's sum: many equal costs round the same way
  for (int i = 0; i < bidders; ++i) {
    double dual = 0;
    if (item[i] >= 0 || item[i] == LEFT) {
      const double cost = item[i] == LEFT ? price[i] : sign * cost_at(i, item[i]);
      dual = item[i] == LEFT ? cost : cost - v[item[i]];
      const double sum = total + cost;
      const bool larger = __builtin_fabs(total) >= __builtin_fabs(cost);
      lost += larger ? (total - sum) + cost : (cost - sum) + total;
      total = sum;
    }
    u_out[i] = T(back * dual);
  }
  if (lost - lost == 0) total += lost;  // not where the sum is beyond the largest number
  for (int j = 0; j < items; ++j) v_out[j] = v[j] > -INF ? T(back * v[j]) : T(0);
  *total_out = T(back * total);
}

template <class T>
template <class Index>
void Sample<T>::write_matches(int status) const {
  auto put = [this, status](void *to, int64_t extent, const int *from) {
    Index *out = static_cast<Index *>(to) + sample * extent;
    for (int64_t k = 0; k < extent; ++k) {
      out[k] = Index(status == HUNGARIAN_SOLVED && from[k] >= 0 ? from[k] : -1);
    }
  };
  put(p.col4row, p.n, rows_bid ? item : owner);
  put(p.row4col, p.m, rows_bid ? owner : item);
}

}  // namespace

#endif
