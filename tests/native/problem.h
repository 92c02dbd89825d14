// A batch of assignment problems laid out in memory as asked, and what is true of any solution.
#ifndef PROBLEM_H
#define PROBLEM_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "hungarian.h"

#define CHECK(condition, ...)                                            \
  do {                                                                   \
    if (!(condition)) {                                                  \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                 \
      std::fputc('\n', stderr);                                          \
      std::abort();                                                      \
    }                                                                    \
  } while (0)

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();

// How the axes b, n, m of a cost lie in memory.
struct Layout {
  int order[3] = {0, 1, 2};            // the outermost first
  int64_t step = 1;                    // of the innermost axis, in elements
  int64_t padding = 0;                 // elements between the lines of an axis
  bool reversed[3] = {false, false, false};
  bool repeated = false;               // one sample for the whole batch, with stride 0
  int64_t shift = 0;                   // bytes before costs and prices: off the grid of their type
};

struct Problem {
  int64_t dtype = HUNGARIAN_FLOAT64, batch = 1, n = 0, m = 0;
  std::vector<double> cost;            // [batch, n, m], of values that the dtype can hold
  std::vector<uint8_t> rows, cols;     // empty: no mask
  std::vector<double> price;           // empty: no price
  bool maximize = false;
  int64_t nan = HUNGARIAN_NAN_RAISE, threads = 1, index_bits = 64;
  Layout layout;

  double at(int64_t b, int64_t i, int64_t j) const {
    return cost[((layout.repeated ? 0 : b) * n + i) * m + j];
  }
  bool row(int64_t b, int64_t i) const { return rows.empty() || rows[b * n + i]; }
  bool col(int64_t b, int64_t j) const { return cols.empty() || cols[b * m + j]; }
};

struct Result {
  int64_t unsolved;
  std::vector<int64_t> col4row, row4col;
  std::vector<double> total, u, v;
  std::vector<uint8_t> status;
};

// NaN equals NaN: the bytes decide.
template <class T>
inline bool same(const std::vector<T> &a, const std::vector<T> &b) {
  return a.size() == b.size() && (a.empty() || !std::memcmp(a.data(), b.data(), a.size() * sizeof(T)));
}

inline bool same(const Result &a, const Result &b) {
  return a.unsolved == b.unsolved && same(a.col4row, b.col4row) && same(a.row4col, b.row4col) &&
         same(a.total, b.total) && same(a.u, b.u) && same(a.v, b.v) && same(a.status, b.status);
}

// Bytes moved to an address that is no multiple of the size of what they hold.
class Shifted {
 public:
  Shifted(const void *from, int64_t bytes, int64_t shift) : shift_(shift), data_(new char[bytes + shift]) {
    if (bytes) std::memcpy(data_.get() + shift, from, size_t(bytes));
  }
  const char *get() const { return data_.get() + shift_; }

 private:
  int64_t shift_;
  std::unique_ptr<char[]> data_;
};

// Exactly as many elements as asked, so that AddressSanitizer sees a step beyond either end.
template <class T>
class Block {
 public:
  explicit Block(int64_t count) : count_(count), data_(new T[count]()) {}
  T *get() { return data_.get(); }
  template <class S>
  std::vector<S> vector() const { return std::vector<S>(data_.get(), data_.get() + count_); }

 private:
  int64_t count_;
  std::unique_ptr<T[]> data_;
};

template <class T, class Index>
Result solve_as(const Problem &p) {
  const int64_t extent[3] = {p.layout.repeated ? 1 : p.batch, p.n, p.m};
  int64_t stride[3], reach = p.layout.step, last = 0, origin = 0;
  for (int k = 2; k >= 0; --k) {
    const int axis = p.layout.order[k];
    stride[axis] = reach;
    reach = reach * extent[axis] + p.layout.padding;
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (extent[axis] == 0) continue;
    last += stride[axis] * (extent[axis] - 1);
    if (p.layout.reversed[axis]) {
      origin += stride[axis] * (extent[axis] - 1);
      stride[axis] = -stride[axis];
    }
  }
  const bool some = extent[0] && p.n && p.m;
  const int64_t entries = some ? last + 1 : 0, wide = sizeof(T);
  Block<T> cost(entries);
  // What lies between the elements is nobody's business.
  for (int64_t k = 0; some && k <= last; ++k) cost.get()[k] = std::numeric_limits<T>::quiet_NaN();
  for (int64_t b = 0; some && b < extent[0]; ++b) {
    for (int64_t i = 0; i < p.n; ++i) {
      for (int64_t j = 0; j < p.m; ++j) {
        cost.get()[origin + b * stride[0] + i * stride[1] + j * stride[2]] = T(p.at(b, i, j));
      }
    }
  }
  if (p.layout.repeated) stride[0] = 0;

  Block<uint8_t> rows(p.rows.size()), cols(p.cols.size());
  std::copy(p.rows.begin(), p.rows.end(), rows.get());
  std::copy(p.cols.begin(), p.cols.end(), cols.get());
  Block<T> price(p.price.size());
  for (size_t k = 0; k < p.price.size(); ++k) price.get()[k] = T(p.price[k]);
  const Shifted moved_cost(cost.get(), entries * wide, p.layout.shift);
  const Shifted moved_unmatched(price.get(), int64_t(p.price.size()) * wide, p.layout.shift);

  Block<Index> col4row(p.batch * p.n), row4col(p.batch * p.m);
  Block<T> total(p.batch), u(p.batch * p.n), v(p.batch * p.m);
  Block<uint8_t> status(p.batch);
  hungarian_batch problems = {};
  problems.abi = HUNGARIAN_ABI;
  problems.dtype = p.dtype;
  problems.batch = p.batch;
  problems.n = p.n;
  problems.m = p.m;
  problems.cost = moved_cost.get() + origin * wide;
  std::copy(stride, stride + 3, problems.cost_strides);
  problems.row_mask = p.rows.empty() ? nullptr : rows.get();
  problems.col_mask = p.cols.empty() ? nullptr : cols.get();
  problems.unmatched_cost = p.price.empty() ? nullptr : moved_unmatched.get();
  problems.unmatched_cost_strides[0] = p.n;
  problems.unmatched_cost_strides[1] = 1;
  problems.maximize = p.maximize;
  problems.nan = p.nan;
  problems.threads = p.threads;
  problems.index_bits = p.index_bits;
  problems.col4row = col4row.get();
  problems.row4col = row4col.get();
  problems.total = total.get();
  problems.u = u.get();
  problems.v = v.get();
  problems.status = status.get();
  const int64_t unsolved = hungarian_solve(&problems);
  CHECK(unsolved >= 0, "%s", hungarian_message(unsolved));
  return {unsolved,
          col4row.template vector<int64_t>(),
          row4col.template vector<int64_t>(),
          total.template vector<double>(),
          u.template vector<double>(),
          v.template vector<double>(),
          status.template vector<uint8_t>()};
}

inline Result solve(const Problem &p) {
  if (p.dtype == HUNGARIAN_FLOAT32) {
    return p.index_bits == 32 ? solve_as<float, int32_t>(p) : solve_as<float, int64_t>(p);
  }
  return p.index_bits == 32 ? solve_as<double, int32_t>(p) : solve_as<double, int64_t>(p);
}

// One sample as the definition has it: only what is valid, the nan policy applied, to be minimised.
struct Sample {
  std::vector<int64_t> rows, cols;     // valid ones
  std::vector<double> cost, price;     // [rows, cols], [rows]; price empty if there is none
  bool invalid = false;
  double scale = 0;                    // of the finite numbers

  Sample(const Problem &p, int64_t b) {
    for (int64_t i = 0; i < p.n; ++i) if (p.row(b, i)) rows.push_back(i);
    for (int64_t j = 0; j < p.m; ++j) if (p.col(b, j)) cols.push_back(j);
    const double sign = p.maximize ? -1 : 1;
    double best = INF, worst = -INF;
    for (int64_t i : rows) for (int64_t j : cols) {
      const double x = sign * p.at(b, i, j);
      cost.push_back(x);
      if (!std::isfinite(x)) continue;
      best = std::min(best, x);
      worst = std::max(worst, x);
      scale = std::max(scale, std::abs(x));
    }
    if (best > worst) best = worst = 0;
    for (double &x : cost) {
      if (std::isnan(x) && p.nan == HUNGARIAN_NAN_FORBID) x = INF;
      if (std::isnan(x) && p.nan == HUNGARIAN_NAN_WORST) x = worst;
      if (x == -INF && p.nan == HUNGARIAN_NAN_WORST) x = best;
      if (!(x > -INF)) invalid = true;
    }
    if (p.price.empty()) return;
    for (int64_t i : rows) {
      const double x = sign * p.price[b * p.n + i];
      price.push_back(x);
      if (!(x > -INF)) invalid = true;
      if (std::isfinite(x)) scale = std::max(scale, std::abs(x));
    }
  }

  double at(size_t i, size_t j) const { return cost[i * cols.size() + j]; }

  // Whether there is a finite matching, by Kuhn's augmenting paths.
  bool feasible() const {
    std::vector<int64_t> owner(cols.size(), -1);
    size_t matched = 0, must = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (!price.empty() && price[i] < INF) continue;
      ++must;
      std::vector<bool> seen(cols.size(), false);
      matched += reach(i, owner, seen);
    }
    return matched == (price.empty() ? std::min(rows.size(), cols.size()) : must);
  }

 private:
  bool reach(size_t i, std::vector<int64_t> &owner, std::vector<bool> &seen) const {
    for (size_t j = 0; j < cols.size(); ++j) {
      if (seen[j] || !(at(i, j) < INF)) continue;
      seen[j] = true;
      if (owner[j] < 0 || reach(size_t(owner[j]), owner, seen)) {
        owner[j] = int64_t(i);
        return true;
      }
    }
    return false;
  }
};

// Checks that a solution is one: statuses, a matching, and the duals that prove the optimum.
inline void certify(const Problem &p, const Result &r) {
  const bool single = p.dtype == HUNGARIAN_FLOAT32;
  const double eps = single ? std::numeric_limits<float>::epsilon()
                            : std::numeric_limits<double>::epsilon();
  const double least = single ? std::numeric_limits<float>::denorm_min()
                              : std::numeric_limits<double>::denorm_min();
  const double most = single ? std::numeric_limits<float>::max() : std::numeric_limits<double>::max();
  const double sign = p.maximize ? -1 : 1;
  int64_t unsolved = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    const Sample s(p, b);
    const int64_t *col4row = r.col4row.data() + b * p.n, *row4col = r.row4col.data() + b * p.m;
    const double *u = r.u.data() + b * p.n, *v = r.v.data() + b * p.m;
    // Duals and totals of the largest numbers there are may be beyond them.
    const double extent = double(p.n + p.m + 1);
    const bool tame = s.scale < most / (4 * extent * extent);

    const int want = s.invalid ? HUNGARIAN_INVALID
                               : s.feasible() ? HUNGARIAN_SOLVED : HUNGARIAN_INFEASIBLE;
    CHECK(r.status[b] == want, "sample %lld: status %d, not %d", (long long)b, r.status[b], want);
    unsolved += r.status[b] != HUNGARIAN_SOLVED;

    size_t pairs = 0;
    for (int64_t i = 0; i < p.n; ++i) {
      const int64_t j = col4row[i];
      CHECK(-1 <= j && j < p.m, "row %lld to column %lld", (long long)i, (long long)j);
      CHECK(j < 0 || row4col[j] == i, "row %lld and column %lld", (long long)i, (long long)j);
      CHECK(j < 0 || (p.row(b, i) && p.col(b, j)), "row %lld is masked", (long long)i);
      pairs += j >= 0;
    }
    for (int64_t j = 0; j < p.m; ++j) {
      const int64_t i = row4col[j];
      CHECK(-1 <= i && i < p.n, "column %lld to row %lld", (long long)j, (long long)i);
      CHECK(i < 0 || col4row[i] == j, "column %lld and row %lld", (long long)j, (long long)i);
    }
    if (r.status[b] != HUNGARIAN_SOLVED) {
      CHECK(pairs == 0 && std::isnan(r.total[b]), "an unsolved sample has results");
      for (int64_t i = 0; i < p.n; ++i) CHECK(std::isnan(u[i]), "u[%lld]", (long long)i);
      for (int64_t j = 0; j < p.m; ++j) CHECK(std::isnan(v[j]), "v[%lld]", (long long)j);
      continue;
    }
    CHECK(!s.price.empty() || pairs == std::min(s.rows.size(), s.cols.size()), "%zu pairs", pairs);
    if (!tame) continue;

    const double slack = 8 * extent * (eps * extent * s.scale + least);
    double total = 0, bound = 0;
    for (size_t i = 0; i < s.rows.size(); ++i) {
      const int64_t row = s.rows[i];
      const double dual = sign * u[row];
      bound += dual;
      if (col4row[row] < 0 && !s.price.empty()) total += s.price[i];
      CHECK(s.price.empty() || dual <= s.price[i] + slack, "u[%lld] above the price", (long long)row);
      const bool surplus = s.price.empty() && s.rows.size() > s.cols.size();
      CHECK(!surplus || dual <= slack, "u[%lld] is %g", (long long)row, u[row]);
      for (size_t j = 0; j < s.cols.size(); ++j) {
        const double x = s.at(i, j), reduced = x - dual - sign * v[s.cols[j]];
        CHECK(reduced >= -slack, "reduced cost %g at %lld %lld", reduced, (long long)row,
              (long long)s.cols[j]);
        if (col4row[row] == s.cols[j]) total += x;
      }
    }
    for (int64_t j : s.cols) {
      const double dual = sign * v[j];
      bound += dual;
      const bool surplus = !s.price.empty() || s.rows.size() < s.cols.size();
      CHECK(!surplus || dual <= slack, "v[%lld] is %g", (long long)j, v[j]);
    }
    CHECK(std::abs(sign * r.total[b] - total) <= slack, "total %g, not %g", r.total[b], sign * total);
    CHECK(std::abs(total - bound) <= slack, "the gap is %g of %g", total - bound, s.scale);
  }
  CHECK(r.unsolved == unsolved, "%lld, not %lld", (long long)r.unsolved, (long long)unsolved);
}

// A generator that gives the same numbers everywhere (xorshift64*).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Du;
  }
  double real() { return double(bits() >> 11) * 0x1p-53; }  // [0, 1)
  int64_t below(int64_t bound) { return int64_t(real() * double(bound)); }

 private:
  uint64_t state_;
};

#endif
