// How the results of a problem are written: matches, duals, the total and what became of it.
#ifndef HUNGARIAN_CUDA_RESULTS_CUH
#define HUNGARIAN_CUDA_RESULTS_CUH

#include "problem.cuh"

namespace hungarian {
namespace device {

// A sum and what was lost by rounding it, by Neumaier: many equal costs round the same way.
struct Sum {
  double value, lost;

  __device__ void add(double x) {
    const double sum = value + x;
    const double a = value < 0 ? -value : value, b = x < 0 ? -x : x;
    lost += a >= b ? (value - sum) + x : (x - sum) + value;
    value = sum;
  }
};

template <class T>
__device__ void Problem<T>::write(int status) const {
  if (p.index_bits == 32) {
    write_matches<int32_t>(status);
  } else {
    write_matches<int64_t>(status);
  }
  const bool solved = status == HUNGARIAN_SOLVED;
  const T nan = T(INF - INF);
  T *of_bidders = static_cast<T *>(rows_bid ? p.u : p.v) + problem * bidders;
  T *of_items = static_cast<T *>(rows_bid ? p.v : p.u) + problem * items;
  const double back = 1 / sign;
  for (int i = thread; i < bidders; i += THREADS) {
    double dual = 0;
    if (solved && item[i] == LEFT) dual = price_of(i);
    if (solved && item[i] >= 0) dual = cost_at(i, item[i]) - v[item[i]];
    of_bidders[i] = solved ? T(back * dual) : nan;
  }
  for (int j = thread; j < items; j += THREADS) {
    const double dual = v[j];
    of_items[j] = !solved ? nan : dual > -INF ? T(back * dual) : T(0);
  }
  if (warp == 0) write_total(status);
  if (thread == 0) p.status[problem] = uint8_t(status);
}

template <class T>
template <class Index>
__device__ void Problem<T>::write_matches(int status) const {
  const bool solved = status == HUNGARIAN_SOLVED;
  Index *of_bidders = static_cast<Index *>(rows_bid ? p.col4row : p.row4col) + problem * bidders;
  Index *of_items = static_cast<Index *>(rows_bid ? p.row4col : p.col4row) + problem * items;
  for (int i = thread; i < bidders; i += THREADS) {
    of_bidders[i] = Index(solved && item[i] >= 0 ? item[i] : NONE);
  }
  for (int j = thread; j < items; j += THREADS) of_items[j] = Index(solved ? owner[j] : NONE);
}

// Warp 0 adds the costs up.
template <class T>
__device__ void Problem<T>::write_total(int status) const {
  Sum sum = {0, 0};
  for (int i = lane; status == HUNGARIAN_SOLVED && i < bidders; i += 32) {
    if (item[i] == LEFT) sum.add(price_of(i));
    if (item[i] >= 0) sum.add(cost_at(i, item[i]));
  }
  for (int step = 16; step; step >>= 1) {
    const double value = __shfl_xor_sync(ALL, sum.value, step);
    const double lost = __shfl_xor_sync(ALL, sum.lost, step);
    // The lower lane's is the first of the two, in both: they agree to the last bit.
    Sum one = lane & step ? Sum{value, lost} : sum;
    const Sum two = lane & step ? sum : Sum{value, lost};
    one.add(two.value);
    one.lost += two.lost;
    sum = one;
  }
  if (sum.lost - sum.lost == 0) sum.value += sum.lost;  // not where it is beyond the largest number
  const double back = 1 / sign;
  T *total = static_cast<T *>(p.total) + problem;
  if (lane == 0) *total = status == HUNGARIAN_SOLVED ? T(back * sum.value) : T(INF - INF);
}

}  // namespace device
}  // namespace hungarian

#endif
