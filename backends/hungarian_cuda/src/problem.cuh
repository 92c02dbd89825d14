// One problem on its way to a solution, in one block of threads: what the parts share.
//
// As in the native solver, the bidders are the side of fewer valid entries, the rows of equals, or
// the rows where they may leave at a price; the other side are the items. Duals are double whatever
// the costs are. A bidder that takes an item lowers the dual of that item only, so the dual of a
// free item stays 0.
//
// This file and those that it is compiled with know nothing of CUDA but threadIdx, blockIdx,
// __syncthreads, __syncwarp, __shfl_xor_sync, __ballot_sync and __any_sync: a CPU compiles them too.
#ifndef HUNGARIAN_CUDA_PROBLEM_CUH
#define HUNGARIAN_CUDA_PROBLEM_CUH

#include "hungarian_cuda.h"
#include "plan.h"

#ifdef __CUDACC_RTC__  // which knows no constant for it
#define INF (__longlong_as_double(0x7ff0000000000000LL))
#else
#define INF (__builtin_inf())
#endif

namespace hungarian {
namespace device {

constexpr int THREADS = 32 * WARPS;
constexpr unsigned ALL = 0xffffffffu;  // lanes
constexpr int NONE = -1;
constexpr int LEFT = -2;           // of a bidder: gone at its price
constexpr int TAKEN = 1 << 30;     // added to the place of an item that has an owner
constexpr int LEAVE = 0x7ffffffe;  // stands for leaving among places: any item comes first
constexpr int NOWHERE = 0x7fffffff;
constexpr double LARGE = 0x1p1000;    // below, nothing on the way to a solution can overflow
constexpr double SMALLER = 0x1p-40;   // what costs beyond are scaled by: exact where it matters

// The least of some values and its place, with the second; of equal values the first place.
struct Best {
  double least, second;
  int at;
};

__device__ inline void join(Best &x, double least, double second, int at) {
  const bool mine = x.least < least || (x.least == least && x.at < at);
  const double loser = mine ? least : x.least, rest = mine ? x.second : second;
  if (!mine) {
    x.least = least;
    x.at = at;
  }
  x.second = loser < rest ? loser : rest;
}

__device__ inline Best of_warp(Best x) {
  for (int step = 16; step; step >>= 1) {
    const double least = __shfl_xor_sync(ALL, x.least, step);
    const double second = __shfl_xor_sync(ALL, x.second, step);
    const int at = __shfl_xor_sync(ALL, x.at, step);
    join(x, least, second, at);
  }
  return x;
}

// What the threads of a block tell each other. Written by one, or by one of each warp.
struct Board {
  double gains[WARPS], low[WARPS], high[WARPS], peak[WARPS];
  Best best[2][WARPS];
  int place[WARPS], who[WARPS], next[WARPS], flags[WARPS];
  int head, waiting, deferred, valid_rows, valid_cols, invalid, status;
};

template <class T>
struct Problem {
  const hungarian_cuda_batch &p;
  Board &board;
  const int64_t problem;
  const int thread, lane, warp;

  bool rows_bid;
  int bidders, items;
  int64_t down, right;  // from one bidder to the next, from one item to the next, in elements
  const T *cost, *price;
  int64_t price_step;
  const uint8_t *bidder_mask, *item_mask;
  double sign;        // -1 where the greatest total is sought; smaller for costs near the largest
  double for_nan, for_lowest;  // what stands for NaN and for -inf

  // Working memory.
  double *v, *distance, *saved;  // [items] duals, -inf where not to be chosen; see paths.cuh
  int *owner, *via, *settled;    // [items]
  int *item, *queue, *later;     // [bidders]

  __device__ Problem(const hungarian_cuda_batch &batch, Board &shared)
      : p(batch), board(shared), problem(blockIdx.x), thread(threadIdx.x),
        lane(threadIdx.x & 31), warp(threadIdx.x >> 5) {}

  __device__ double cost_at(int64_t bidder, int64_t at) const {
    return heeded(double(cost[bidder * down + at * right]));
  }

  // A cost in the sense of a minimum, by the policy for what cannot be compared.
  __device__ double heeded(double x) const {
    const double c = sign * x;
    return c > -INF ? c : c == c ? for_lowest : for_nan;
  }

  __device__ double price_of(int64_t bidder) const {
    return price ? sign * double(price[bidder * price_step]) : INF;
  }

  __device__ bool bids(int bidder) const { return !bidder_mask || bidder_mask[bidder]; }

  // Chooses the sides and lays out the working memory; returns whether all costs can be compared.
  __device__ bool prepare(char *room);
  __device__ void look_at_costs();
  __device__ void look_at_prices();

  __device__ void bid_all_at_once();
  __device__ void bid(int count);
  __device__ void settle(int count);

  template <bool WHOLE_BLOCK>
  __device__ bool search(int root);
  template <bool WHOLE_BLOCK>
  __device__ bool search_for_the_rest();
  template <bool WHOLE_BLOCK>
  __device__ Best relax(int i, bool from_root, double ahead, int here, int turn);
  template <bool WHOLE_BLOCK>
  __device__ void hand_over(int root, int end, int leaver);

  __device__ void write(int status) const;
  template <class Index>
  __device__ void write_matches(int status) const;
  __device__ void write_total(int status) const;
};

// The number of valid entries of a mask, for all threads.
__device__ inline int count_valid(const uint8_t *mask, int extent, int &total) {
  if (threadIdx.x == 0) total = mask ? 0 : extent;
  __syncthreads();
  if (mask) {
    for (int from = 0; from < extent; from += THREADS) {
      const int k = from + int(threadIdx.x);
      const unsigned valid = __ballot_sync(ALL, k < extent && mask[k]);
      if ((threadIdx.x & 31) == 0 && valid) atomicAdd(&total, __popc(valid));
    }
  }
  __syncthreads();
  return total;
}

template <class T>
__device__ bool Problem<T>::prepare(char *room) {
  const int n = int(p.n), m = int(p.m);
  const uint8_t *rows = p.row_mask ? p.row_mask + problem * p.n : nullptr;
  const uint8_t *cols = p.col_mask ? p.col_mask + problem * p.m : nullptr;
  const int valid_rows = count_valid(rows, n, board.valid_rows);
  const int valid_cols = count_valid(cols, m, board.valid_cols);
  rows_bid = p.unmatched_cost || valid_rows <= valid_cols;
  bidders = rows_bid ? n : m;
  items = rows_bid ? m : n;
  bidder_mask = rows_bid ? rows : cols;
  item_mask = rows_bid ? cols : rows;
  down = p.cost_strides[rows_bid ? 1 : 2];
  right = p.cost_strides[rows_bid ? 2 : 1];
  cost = static_cast<const T *>(p.cost) + problem * p.cost_strides[0];
  price = nullptr;
  price_step = p.unmatched_cost_strides[1];
  if (p.unmatched_cost) {
    price = static_cast<const T *>(p.unmatched_cost) + problem * p.unmatched_cost_strides[0];
  }
  sign = p.maximize ? -1.0 : 1.0;
  for_nan = for_lowest = INF;

  v = reinterpret_cast<double *>(room);
  distance = v + items;
  saved = distance + items;
  owner = reinterpret_cast<int *>(saved + items);
  via = owner + items;
  settled = via + items;
  item = settled + items;
  queue = item + bidders;
  later = queue + bidders;

  if (thread == 0) {
    board.invalid = 0;
    board.head = board.waiting = board.deferred = 0;
  }
  for (int j = thread; j < items; j += THREADS) {
    v[j] = item_mask && !item_mask[j] ? -INF : 0.0;
    owner[j] = NONE;
  }
  for (int i = thread; i < bidders; i += THREADS) item[i] = NONE;
  __syncthreads();
  look_at_costs();
  if (price) look_at_prices();
  // The bidders that wait, in order: one warp counts them.
  if (warp == 0) {
    int waiting = 0;
    for (int from = 0; from < bidders; from += 32) {
      const int i = from + lane;
      const bool waits = i < bidders && bids(i);
      const unsigned all = __ballot_sync(ALL, waits);
      if (waits) queue[waiting + __popc(all & ((1u << lane) - 1))] = i;
      waiting += __popc(all);
    }
    if (lane == 0) board.waiting = waiting;
  }
  __syncthreads();
  return !board.invalid;
}

// Looks at every valid cost once: for what cannot be compared, the range of the finite ones, and
// whether sums of them may overflow.
template <class T>
__device__ void Problem<T>::look_at_costs() {
  // Lanes go along the axis whose entries lie closer together.
  const bool across = (right < 0 ? -right : right) <= (down < 0 ? -down : down);
  const int outer = across ? bidders : items, inner = across ? items : bidders;
  const uint8_t *outer_mask = across ? bidder_mask : item_mask;
  const uint8_t *inner_mask = across ? item_mask : bidder_mask;
  const int64_t outer_step = across ? down : right, inner_step = across ? right : down;
  double low = INF, high = -INF;
  bool not_a_number = false, lowest = false;
  for (int r = warp; r < outer; r += WARPS) {
    if (outer_mask && !outer_mask[r]) continue;
    const T *line = cost + r * outer_step;
    for (int c = lane; c < inner; c += 32) {
      if (inner_mask && !inner_mask[c]) continue;
      const double x = sign * double(line[c * inner_step]);
      not_a_number |= x != x;
      lowest |= x == -INF;
      if (x - x == 0) {
        low = x < low ? x : low;
        high = x > high ? x : high;
      }
    }
  }
  for (int step = 16; step; step >>= 1) {
    const double l = __shfl_xor_sync(ALL, low, step), h = __shfl_xor_sync(ALL, high, step);
    low = l < low ? l : low;
    high = h > high ? h : high;
  }
  not_a_number = __any_sync(ALL, not_a_number);
  lowest = __any_sync(ALL, lowest);
  if (lane == 0) {
    board.low[warp] = low;
    board.high[warp] = high;
    board.flags[warp] = (not_a_number ? 1 : 0) | (lowest ? 2 : 0);
  }
  __syncthreads();
  int flags = 0;
  for (int w = 0; w < WARPS; ++w) {
    low = board.low[w] < low ? board.low[w] : low;
    high = board.high[w] > high ? board.high[w] : high;
    flags |= board.flags[w];
  }
  const double peak = high < low ? 0.0 : (-low > high ? -low : high);
  if (sizeof(T) == sizeof(double) && peak >= LARGE) sign *= SMALLER;
  const double scale = sign < 0 ? -sign : sign;
  if (p.nan == HUNGARIAN_NAN_WORST) {
    for_nan = high < low ? 0.0 : scale * high;
    for_lowest = high < low ? 0.0 : scale * low;
  } else if (flags & (p.nan == HUNGARIAN_NAN_FORBID ? 2 : 3)) {
    if (thread == 0) board.invalid = 1;
  }
  __syncthreads();
}

template <class T>
__device__ void Problem<T>::look_at_prices() {
  bool wrong = false, large = false;
  for (int i = thread; i < bidders; i += THREADS) {
    if (!bids(i)) continue;
    const double x = (p.maximize ? -1.0 : 1.0) * double(price[i * price_step]);
    wrong |= !(x > -INF);
    large |= x - x == 0 && (x >= LARGE || x <= -LARGE);
  }
  wrong = __any_sync(ALL, wrong);
  large = __any_sync(ALL, large);
  if (lane == 0) board.flags[warp] = (wrong ? 1 : 0) | (large ? 2 : 0);
  __syncthreads();
  int flags = 0;
  for (int w = 0; w < WARPS; ++w) flags |= board.flags[w];
  if ((flags & 2) && sizeof(T) == sizeof(double) && (sign == 1 || sign == -1)) {
    sign *= SMALLER;
    for_nan *= SMALLER;
    for_lowest *= SMALLER;
  }
  if ((flags & 1) && thread == 0) board.invalid = 1;
  __syncthreads();
}

}  // namespace device
}  // namespace hungarian

#endif
