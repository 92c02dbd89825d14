// Passes over lines of costs, in lanes.
#ifndef HUNGARIAN_PASSES_H
#define HUNGARIAN_PASSES_H

#include "sample.h"

namespace {

// The two least costs of a row, in the costs' own type; no dual takes part. Where items are masked,
// `low` is 0 for the valid ones, and inf for the others and beyond the last.
template <class T>
template <bool MASKED>
Bid Sample<T>::two_least(const T *costs) {
  using V = typename Lane::V;
  using I = typename Lane::I;
  using Unaligned = typename Lane::Unaligned;
  const V up = V{} + T(INF), s = V{} + T(sign);
  V least = up, second = up;
  I flaws = I{};
  auto entries = [&](int j) {
    const V x = s * *reinterpret_cast<const Unaligned *>(costs + j);
    if (!MASKED) return x;
    return *reinterpret_cast<const Unaligned *>(low + j) < up ? x : up;
  };
  auto take = [&](V x) {
    flaws |= x != x;
    second = lesser(greater(least, x), second);
    least = lesser(x, least);
  };
  const int whole = MASKED ? width : width - width % Lane::width;
  for (int j = 0; j < whole; j += Lane::width) take(entries(j));
  if (whole < width) {
    I lane;
    for (int k = 0; k < Lane::width; ++k) lane[k] = k;
    take(lane < typename Lane::Index(width - whole) ? entries(whole) : up);
  }
  Bid bid{INF, INF, 0};
  two_least_lanes(least, second, bid.least, bid.second);
  if ((bits(flaws) && p.nan != HUNGARIAN_NAN_FORBID) || bid.least == -INF) unsound = true;
  if (!(bid.least < INF)) return bid;
  const V same = V{} + T(bid.least);
  for (int j = 0; j < width; j += Lane::width) {
    if (const unsigned hits = bits(entries(j) == same)) {
      return {bid.least, bid.second, j + __builtin_ctz(hits)};
    }
  }
  return bid;
}

// The two least costs of every column of the table, over valid rows; false if one is unsound.
template <class T>
bool Sample<T>::least_per_column(const uint8_t *columns, const uint8_t *rows) {
  constexpr int FOUR = 4 * Lane::width;
  int c = 0;
  bool flaw = false;
  if (height > 128 && width > 2 * FOUR) {
    flaw = stream(columns, rows);
  } else {
    for (; c + 2 * Lane::width < width; c += FOUR) {
      if (interrupted()) return false;
      flaw |= strip<4>(c, columns, rows);
    }
    for (; c + Lane::width < width; c += 2 * Lane::width) flaw |= strip<2>(c, columns, rows);
    for (; c < width; c += Lane::width) flaw |= strip<1>(c, columns, rows);
  }
  unsound = flaw;
  return !flaw;
}

// Some columns together, in registers from the first row to the last.
template <class T>
template <int MANY>
bool Sample<T>::strip(int from, const uint8_t *columns, const uint8_t *rows) {
  using V = typename Lane::V;
  using I = typename Lane::I;
  const V up = V{} + T(INF), s = V{} + T(sign);
  V least[MANY], second[MANY];
  I at[MANY], flaws[MANY];
  for (int g = 0; g < MANY; ++g) {
    least[g] = second[g] = up;
    at[g] = flaws[g] = I{};
  }
  for (int r = 0; r < height; ++r) {
    if (rows && !rows[r]) continue;
    const T *costs = row(r) + from;
    for (int g = 0; g < MANY; ++g) {
      if (MANY > 1 && from + g * Lane::width >= width) break;
      const V x = s * *reinterpret_cast<const typename Lane::Unaligned *>(costs +
                                                                         g * Lane::width);
      flaws[g] |= x != x;
      const I less = x < least[g];
      second[g] = lesser(greater(least[g], x), second[g]);
      least[g] = less ? x : least[g];
      at[g] = less ? I{} + typename Lane::Index(r) : at[g];
    }
  }
  bool flaw = false;
  for (int g = 0; g < MANY; ++g) {
    const int c = from + g * Lane::width;
    if (MANY > 1 && c >= width) break;
    memcpy(low + c, &least[g], sizeof least[g]);
    memcpy(next + c, &second[g], sizeof second[g]);
    memcpy(place + c, &at[g], sizeof at[g]);
    unsigned bad = bits(least[g] == V{} - T(INF));
    if (p.nan != HUNGARIAN_NAN_FORBID) bad |= bits(flaws[g]);
    for (; bad; bad &= bad - 1) {
      const int k = c + __builtin_ctz(bad);
      flaw |= k < width && (!columns || columns[k]);
    }
  }
  return flaw;
}

// All columns row by row, as the costs lie in memory; few rows hold a new minimum.
template <class T>
bool Sample<T>::stream(const uint8_t *columns, const uint8_t *rows) {
  using V = typename Lane::V;
  using Unaligned = typename Lane::Unaligned;
  const V s = V{} + T(sign);
  const int64_t extent = padded(width);
  for (int64_t c = 0; c < extent; ++c) {
    low[c] = next[c] = T(INF);
    place[c] = 0;
  }
  bool flaw = false;
  for (int r = 0; r < height; ++r) {
    if (rows && !rows[r]) continue;
    if (interrupted()) return false;
    const T *costs = row(r);
    for (int c = 0; c < width; c += Lane::width) {
      const V x = s * *reinterpret_cast<const Unaligned *>(costs + c);
      const V known = *reinterpret_cast<const Unaligned *>(next + c);
      unsigned news = ~bits(x >= known) & ((1u << Lane::width) - 1);  // NaN is news
      for (; news; news &= news - 1) {
        const int k = c + __builtin_ctz(news);
        if (k >= width || (columns && !columns[k])) continue;
        const T cost = T(sign) * read<T>(costs + k);
        flaw |= cost != cost ? p.nan != HUNGARIAN_NAN_FORBID : cost == T(-INF);
        if (cost < low[k]) {
          next[k] = low[k];
          low[k] = cost;
          place[k] = r;
        } else if (cost < next[k]) {
          next[k] = cost;
        }
      }
    }
  }
  return flaw;
}

// The same of so few items that lanes would not make up for their reduction: even and odd places
// side by side, because each step of a minimum waits for the one before.
template <class T>
Bid Sample<T>::few_slacks(const T *costs) const {
  double least[2] = {INF, INF}, second[2] = {INF, INF};
  int at[2] = {0, 0};
  for (int j = 0; j < items; j += 2) {
    for (int side = 0; side < 2; ++side) {
      const double x = sign * double(read<T>(costs + j + side)) - v[j + side];  // beyond the last, v is -inf
      const double runner = least[side] > x ? least[side] : x;
      second[side] = runner < second[side] ? runner : second[side];
      at[side] = x < least[side] ? j + side : at[side];
      least[side] = x < least[side] ? x : least[side];
    }
  }
  const bool odd = least[1] < least[0] || (least[1] == least[0] && at[1] < at[0]);
  const double other = odd ? least[0] : least[1];
  const double runner = second[0] < second[1] ? second[0] : second[1];
  return {least[odd], other < runner ? other : runner, at[odd]};
}

// The two least slacks cost - v of a line.
template <class T>
Bid Sample<T>::least_slacks(const T *costs) const {
  if (items <= 2 * WIDTH) return few_slacks(costs);
  const F64 s = fill(sign);
  F64 least = fill(INF), second = least;
  for (int j = 0; j < items; j += WIDTH) {
    const F64 x = s * load(costs + j) - load(v + j);
    second = lesser(greater(least, x), second);
    least = lesser(x, least);
  }
  Bid bid{INF, INF, 0};
  two_least_lanes(least, second, bid.least, bid.second);
  if (!(bid.least < INF)) return bid;
  const F64 same = fill(bid.least);
  for (int j = 0; j < items; j += WIDTH) {
    const F64 x = s * load(costs + j) - load(v + j);
    if (const unsigned hits = bits(x == same)) {
      bid.at = j + __builtin_ctz(hits);
      break;
    }
  }
  return bid;
}

// The first free item of a bidder whose slack is `least`, or NONE.
template <class T>
int Sample<T>::free_at(int i, double least) {
  if (shortlists) {
    const List list = list_of(i);
    for (int k = 0; k < list.length; k += WIDTH) {
      const F64 x = list.slacks(k, v) + gather(busy, list.items + k);
      if (const unsigned hits = bits(x == fill(least))) {
        return list.items[k + __builtin_ctz(hits)];
      }
    }
    if (least < bound[i]) return NONE;
  }
  const T *costs = line(i);
  const F64 s = fill(sign), same = fill(least);
  for (int j = 0; j < items; j += WIDTH) {
    const F64 x = s * load(costs + j) - load(v + j) + load(busy + j);
    if (const unsigned hits = bits(x == same)) return j + __builtin_ctz(hits);
  }
  return NONE;
}

}  // namespace

#endif
