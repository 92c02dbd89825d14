// The native solver against its definition: every matching tried where that is possible, else the
// duals as certificate. One failure ends the program with a message.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "problem.h"

#if defined(__has_feature)  // Clang's way of saying it
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace {

struct Family {
  const char *name;
  std::function<double(Random &, int64_t i, int64_t j)> cost;
};

// Numbers that float32 holds exactly, so that both dtypes solve the same problem.
const Family FAMILIES[] = {
    {"uniform", [](Random &r, int64_t, int64_t) { return double(float(r.real())); }},
    {"signed", [](Random &r, int64_t, int64_t) { return double(float(2 * r.real() - 1)); }},
    {"integers", [](Random &r, int64_t, int64_t) { return double(r.below(100)); }},
    {"ties", [](Random &r, int64_t, int64_t) { return double(r.below(3)); }},
    {"constant", [](Random &, int64_t, int64_t) { return 1.5; }},
    {"near-ties", [](Random &r, int64_t, int64_t) { return 1 + double(r.below(4)) * 0x1p-23; }},
    {"i * j", [](Random &, int64_t i, int64_t j) { return double((i + 1) * (j + 1)); }},
    {"sparse", [](Random &r, int64_t, int64_t) { return r.below(10) < 8 ? INF : double(r.below(9)); }},
    {"huge and tiny", [](Random &r, int64_t, int64_t) { return std::ldexp(1.0, int(r.below(60)) - 30); }},
};

Problem random_problem(Random &random, const Family &family, int64_t batch, int64_t n, int64_t m) {
  Problem p;
  p.batch = batch;
  p.n = n;
  p.m = m;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < m; ++j) p.cost.push_back(family.cost(random, i, j));
    }
  }
  return p;
}

// The least total of sample s from row i on, by trying everything; +inf if there is none.
double least_total(const Sample &s, size_t i, unsigned taken, size_t may_skip) {
  if (i == s.rows.size()) return 0;
  double best = INF;
  if (!s.price.empty()) {
    best = s.price[i] + least_total(s, i + 1, taken, may_skip);
  } else if (may_skip) {
    best = least_total(s, i + 1, taken, may_skip - 1);
  }
  for (size_t j = 0; j < s.cols.size(); ++j) {
    if (taken >> j & 1 || !(s.at(i, j) < INF)) continue;
    best = std::min(best, s.at(i, j) + least_total(s, i + 1, taken | 1u << j, may_skip));
  }
  return best;
}

void check_by_trying(const Problem &p) {
  const Result r = solve(p);
  certify(p, r);
  for (int64_t b = 0; b < p.batch; ++b) {
    const Sample s(p, b);
    const size_t n = s.rows.size(), m = s.cols.size();
    if (s.invalid) continue;
    const double want = least_total(s, 0, 0, n > m ? n - m : 0);
    CHECK((want < INF) == (r.status[b] == HUNGARIAN_SOLVED), "status %d", r.status[b]);
    const double eps = p.dtype == HUNGARIAN_FLOAT32 ? 1e-6 : 1e-13;
    const double got = p.maximize ? -r.total[b] : r.total[b];
    CHECK(!(want < INF) || std::abs(got - want) <= eps * (1 + 8 * s.scale), "%g, not %g", got, want);
  }
}

void test_small() {
  Random random(1);
  for (const Family &family : FAMILIES) {
    for (int64_t n = 0; n <= 6; ++n) {
      for (int64_t m = 0; m <= 6; ++m) {
        for (int variety = 0; variety < 16; ++variety) {
          Problem p = random_problem(random, family, 3, n, m);
          p.dtype = variety & 1;
          p.maximize = variety & 2 && std::strcmp(family.name, "sparse") != 0;
          p.index_bits = variety & 4 ? 32 : 64;
          if (variety & 4) {
            for (int64_t k = 0; k < 3 * n; ++k) p.rows.push_back(random.below(4) != 0);
            for (int64_t k = 0; k < 3 * m; ++k) p.cols.push_back(random.below(4) != 0);
          }
          if (variety & 8) {
            for (int64_t k = 0; k < 3 * n; ++k) {
              p.price.push_back(random.below(5) ? double(random.below(4)) / 2 : p.maximize ? -INF : INF);
            }
          }
          check_by_trying(p);
        }
      }
    }
  }
}

// Sizes around the widths of registers and blocks, tall and wide, and some with shortlists.
void test_sizes() {
  Random random(2);
  const int64_t sizes[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 150};
  for (const Family &family : FAMILIES) {
    for (int64_t n : sizes) {
      for (int64_t m : sizes) {
        Problem p = random_problem(random, family, 1, n, m);
        p.dtype = random.below(2);
        p.maximize = std::strcmp(family.name, "sparse") != 0 && random.below(2);
        certify(p, solve(p));
        if (n < 100 || m < 100) continue;
        for (int64_t k = 0; k < n; ++k) p.rows.push_back(random.below(8) != 0);
        certify(p, solve(p));
        for (int64_t k = 0; k < m; ++k) p.cols.push_back(random.below(8) != 0);
        certify(p, solve(p));
        for (int64_t k = 0; k < n; ++k) p.price.push_back(p.cost[size_t(k * m)]);
        certify(p, solve(p));
      }
    }
  }
}

void test_layouts() {
  Random random(3);
  const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  const int64_t shapes[][2] = {{5, 9}, {9, 5}, {20, 20}, {1, 40}, {40, 1}, {33, 18}};
  for (const auto &shape : shapes) {
    for (int variety = 0; variety < 6 * 2 * 2 * 8 * 2; ++variety) {
      Problem p = random_problem(random, FAMILIES[variety % 5], 3, shape[0], shape[1]);
      std::copy_n(orders[variety % 6], 3, p.layout.order);
      p.layout.step = 1 + variety / 6 % 2;
      p.layout.padding = variety / 12 % 2 * 3;
      for (int axis = 0; axis < 3; ++axis) p.layout.reversed[axis] = variety / 24 >> axis & 1;
      p.dtype = variety / 192;
      certify(p, solve(p));
    }
    Problem p = random_problem(random, FAMILIES[0], 1, shape[0], shape[1]);
    p.batch = 4;
    p.layout.repeated = true;
    const Result r = solve(p);
    certify(p, r);
    for (int64_t b = 1; b < 4; ++b) CHECK(r.total[b] == r.total[0], "the batch position matters");
  }
}

void test_constant_gives_the_identity() {
  for (int64_t n = 1; n < 40; n += 3) {
    for (int64_t m = 1; m < 40; m += 3) {
      for (int turned = 0; turned < 2; ++turned) {
        Problem p;
        p.dtype = (n + m) % 2;
        p.n = n;
        p.m = m;
        p.cost.assign(size_t(n * m), -2.5);
        if (turned) std::swap(p.layout.order[1], p.layout.order[2]);
        const Result r = solve(p);
        for (int64_t i = 0; i < n; ++i) {
          const int64_t want = i < m ? i : -1;
          CHECK(r.col4row[i] == want, "%lld x %lld: row %lld to %lld", (long long)n, (long long)m,
                (long long)i, (long long)r.col4row[i]);
        }
      }
    }
  }
}

// One bad sample among good ones; NaN in masked places; every policy.
void test_statuses() {
  Random random(4);
  for (int64_t n : {1, 3, 20}) {
    for (int64_t m : {1, 4, 20, 30}) {
      for (double bad : {NOT_A_NUMBER, INF, -INF}) {
        for (int64_t nan = 0; nan < 3; ++nan) {
          for (int variety = 0; variety < 8; ++variety) {
            Problem p = random_problem(random, FAMILIES[0], 3, n, m);
            p.nan = nan;
            p.dtype = variety & 1;
            p.maximize = variety & 2;
            if (variety & 4) {
              p.cost[size_t(n * m + random.below(n * m))] = bad;
            } else {  // a whole row
              for (int64_t j = 0; j < m; ++j) p.cost[size_t(n * m + j)] = bad;
            }
            certify(p, solve(p));
            p.rows.assign(size_t(3 * n), 1);
            for (int64_t i = 0; i < n; ++i) p.rows[size_t(n + i)] = 0;
            const Result r = solve(p);
            certify(p, r);
            CHECK(r.unsolved == 0, "what is masked was read");
          }
        }
      }
    }
  }
}

void test_bad_arguments() {
  const double cost = 1;
  double total = 0, u = 0, v = 0;
  int64_t col4row = 0, row4col = 0;
  uint8_t status = 0;
  hungarian_batch good = {};
  good.abi = HUNGARIAN_ABI;
  good.dtype = HUNGARIAN_FLOAT64;
  good.batch = good.n = good.m = 1;
  good.cost = &cost;
  good.index_bits = 64;
  good.col4row = &col4row;
  good.row4col = &row4col;
  good.total = &total;
  good.u = &u;
  good.v = &v;
  good.status = &status;
  CHECK(hungarian_solve(&good) == 0 && total == 1, "total %g", total);
  const std::function<void(hungarian_batch &)> spoil[] = {
      [](hungarian_batch &p) { p.abi = HUNGARIAN_ABI + 1; },
      [](hungarian_batch &p) { p.dtype = 2; },
      [](hungarian_batch &p) { p.dtype = -1; },
      [](hungarian_batch &p) { p.batch = -1; },
      [](hungarian_batch &p) { p.n = -1; },
      [](hungarian_batch &p) { p.m = INT64_MAX; },
      [](hungarian_batch &p) { p.nan = 3; },
      [](hungarian_batch &p) { p.index_bits = 16; },
      [](hungarian_batch &p) { p.threads = -1; },
      [](hungarian_batch &p) { p.cost = nullptr; },
      [](hungarian_batch &p) { p.col4row = nullptr; },
      [](hungarian_batch &p) { p.status = nullptr; },
  };
  int which = 0;
  for (const auto &change : spoil) {
    hungarian_batch p = good;
    change(p);
    CHECK(hungarian_solve(&p) == HUNGARIAN_BAD_ARGUMENT, "mistake %d was not seen", which);
    ++which;
  }
  CHECK(hungarian_solve(nullptr) == HUNGARIAN_BAD_ARGUMENT, "NULL");
  CHECK(std::strlen(hungarian_message(HUNGARIAN_BAD_ARGUMENT)) > 0, "no message");
  CHECK(hungarian_abi() == HUNGARIAN_ABI, "abi");
}

// Large enough that several threads are worth their while.
std::vector<Problem> large_problems() {
  Random random(5);
  std::vector<Problem> problems;
  for (const Family &family : FAMILIES) {
    problems.push_back(random_problem(random, family, 40, 30, 50));
    problems.push_back(random_problem(random, family, 40, 50, 30));
    problems.back().dtype = HUNGARIAN_FLOAT32;
  }
  return problems;
}

void test_thread_counts() {
  for (Problem &p : large_problems()) {
    p.threads = 1;
    const Result one = solve(p);
    certify(p, one);
    for (int64_t threads : {2, 3, 8, 100, 0}) {
      p.threads = threads;
      CHECK(same(one, solve(p)), "%lld threads differ from one", (long long)threads);
    }
  }
  hungarian_set_num_threads(3);
  CHECK(hungarian_get_num_threads() == 3, "%lld", (long long)hungarian_get_num_threads());
  hungarian_set_num_threads(0);
  CHECK(hungarian_get_num_threads() >= 1, "%lld", (long long)hungarian_get_num_threads());
}

void test_callers_at_once() {
  const std::vector<Problem> problems = large_problems();
  std::vector<Result> want;
  for (const Problem &p : problems) want.push_back(solve(p));
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (size_t k = 0; k < 2 * problems.size(); ++k) {
        const size_t which = (k + size_t(5 * caller)) % problems.size();
        Problem p = problems[which];
        p.threads = caller;  // the first takes the default
        CHECK(same(want[which], solve(p)), "caller %d, problem %zu", caller, which);
        if (caller == 0) hungarian_set_num_threads(int64_t(k % 3));
      }
    });
  }
  for (std::thread &caller : callers) caller.join();
  hungarian_set_num_threads(0);
}

// A child has none of its parent's threads, and perhaps a lock that one of them held.
void test_fork() {
  const std::vector<Problem> problems = large_problems();
  std::vector<Result> want;
  for (const Problem &p : problems) want.push_back(solve(p));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::atomic<bool> stop{true};  // a fork may leave the sanitizer's own allocator locked
#else
  std::atomic<bool> stop{false};
#endif
  std::thread busy([&] {
    for (size_t k = 0; !stop; ++k) {
      Problem p = problems[k % problems.size()];
      p.threads = 4;
      solve(p);
    }
  });
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
      alarm(60);  // a deadlock ends by a signal
      if (!std::getenv("HUNGARIAN_NUM_THREADS")) {
        CHECK(hungarian_get_num_threads() == 1, "%lld", (long long)hungarian_get_num_threads());
      }
      for (size_t k = 0; k < problems.size(); ++k) {
        Problem p = problems[k];
        p.threads = 0;
        CHECK(same(want[k], solve(p)), "the child's problem %zu", k);
#ifndef __SANITIZE_THREAD__  // which allows no threads in a child
        p.threads = 3;
        CHECK(same(want[k], solve(p)), "the child's problem %zu in threads", k);
#endif
      }
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
  }
  stop = true;
  busy.join();
}

}  // namespace

// With arguments: only the tests of these names.
int main(int argc, char **argv) {
  alarm(300);  // nothing here may hang
  const char *asked = std::getenv("HUNGARIAN_VARIANT");
  const char *variant = hungarian_variant();
  CHECK(!asked || std::strcmp(asked, "base") || !std::strcmp(variant, "baseline"), "%s", variant);
  const struct {
    const char *name;
    void (*run)();
  } tests[] = {
      {"small", test_small},
      {"sizes", test_sizes},
      {"layouts", test_layouts},
      {"constant gives the identity", test_constant_gives_the_identity},
      {"statuses", test_statuses},
      {"bad arguments", test_bad_arguments},
      {"thread counts", test_thread_counts},
      {"callers at once", test_callers_at_once},
      {"fork", test_fork},
  };
  for (const auto &test : tests) {
    const auto asks = [&](const char *name) { return !std::strcmp(name, test.name); };
    if (argc > 1 && std::none_of(argv + 1, argv + argc, asks)) continue;
    std::printf("%s: %s\n", variant, test.name);
    std::fflush(stdout);
    test.run();
  }
}
