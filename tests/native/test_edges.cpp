// What must make no difference (where costs lie, how large they are), and calls that are interrupted.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "problem.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Few values, so that most problems have several optima.
Problem tied(Random &random, int64_t batch, int64_t n, int64_t m, int64_t values) {
  Problem p;
  p.batch = batch;
  p.n = n;
  p.m = m;
  for (int64_t k = 0; k < batch * n * m; ++k) p.cost.push_back(double(random.below(values) - 1));
  return p;
}

void test_ties_and_layouts() {
  Random random(1);
  const int64_t shapes[][2] = {{1, 1}, {4, 4}, {9, 9}, {7, 12}, {12, 7}, {33, 33}, {100, 100}, {150, 120}};
  for (const auto &shape : shapes) {
    for (int variety = 0; variety < 32; ++variety) {
      Problem p = tied(random, 2, shape[0], shape[1], 2 + variety % 3);
      p.dtype = variety & 1;
      p.maximize = variety & 2;
      if (variety & 4) {
        for (int64_t k = 0; k < 2 * p.n; ++k) p.rows.push_back(random.below(4) != 0);
        for (int64_t k = 0; k < 2 * p.m; ++k) p.cols.push_back(random.below(4) != 0);
      }
      if (variety & 8) {
        for (int64_t k = 0; k < 2 * p.n; ++k) p.price.push_back(double(random.below(3)));
      }
      if (variety & 16) {
        p.nan = HUNGARIAN_NAN_WORST;
        for (double &x : p.cost) x = random.below(20) ? x : NOT_A_NUMBER;
      }
      const Result want = solve(p);
      certify(p, want);
      const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
      const int step = shape[0] > 64 ? 5 : 1;  // large ones take long under sanitizers
      for (int layout = 0; layout < 48; layout += step) {
        std::copy_n(orders[layout % 6], 3, p.layout.order);
        p.layout.step = 1 + layout / 6 % 2;
        for (int axis = 0; axis < 3; ++axis) p.layout.reversed[axis] = layout / 12 % 2;
        p.layout.shift = layout / 24 * 3;
        p.threads = 1 + layout % 2;
        const Result found = solve(p);
        CHECK(same(want.col4row, found.col4row), "layout %d of variety %d", layout, variety);
        CHECK(want.total == found.total && want.u == found.u && want.v == found.v, "%d", layout);
      }
    }
  }
}

// Scaled by a power of two, a problem is the same problem, up to the largest number there is.
void test_large_costs() {
  Random random(2);
  for (int variety = 0; variety < 400; ++variety) {
    const int64_t n = 1 + random.below(variety % 10 ? 8 : 120), m = n + random.below(3);
    Problem p;
    p.n = variety & 1 ? n : m;
    p.m = variety & 1 ? m : n;
    p.maximize = variety & 2;
    const bool sparse = variety & 4;
    for (int64_t k = 0; k < n * m; ++k) {
      // Some far smaller, some forbidden, and all of them in between.
      const double size = random.below(2) ? 1 : random.below(2) ? 0.5 : 0x1p-30;
      const double x = size * (2 * random.real() - 1) * (random.below(8) ? 1 : 1 - 0x1p-53);
      p.cost.push_back(sparse && random.below(4) == 0 ? (p.maximize ? -INF : INF) : x);
    }
    if (variety & 8) {
      for (int64_t k = 0; k < p.n; ++k) p.price.push_back(2 * random.real() - 1);
    }
    const Result want = solve(p);
    certify(p, want);
    for (int power : {1024, 1023, 1020, 1000}) {
      Problem large = p;
      for (double &x : large.cost) x = std::ldexp(x, power - 1) * 2;
      for (double &x : large.price) x = std::ldexp(x, power - 1) * 2;
      const Result found = solve(large);
      CHECK(same(want.col4row, found.col4row), "variety %d, times 2^%d", variety, power);
      CHECK(same(want.status, found.status), "variety %d, times 2^%d", variety, power);
      if (want.unsolved || power > 1000) continue;
      CHECK(found.total[0] == std::ldexp(want.total[0], power), "%g", found.total[0]);
      for (int64_t i = 0; i < p.n; ++i) CHECK(found.u[i] == std::ldexp(want.u[i], power), "u");
      for (int64_t j = 0; j < p.m; ++j) CHECK(found.v[j] == std::ldexp(want.v[j], power), "v");
    }
  }
}

// Costs i * j, for which every search goes through nearly everything.
struct Call {
  std::vector<float> cost, total, u, v;
  std::vector<int32_t> col4row, row4col;
  std::vector<uint8_t> status;
  hungarian_batch problems = {};

  Call(int64_t batch, int64_t n, int64_t threads)
      : cost(size_t(batch * n * n)), total(size_t(batch)), u(size_t(batch * n)), v(size_t(batch * n)),
        col4row(size_t(batch * n)), row4col(size_t(batch * n)), status(size_t(batch)) {
    for (size_t k = 0; k < cost.size(); ++k) {
      cost[k] = float(int64_t(k) / n % n + 1) * float(int64_t(k) % n + 1);
    }
    problems.abi = HUNGARIAN_ABI;
    problems.dtype = HUNGARIAN_FLOAT32;
    problems.batch = batch;
    problems.n = problems.m = n;
    problems.cost = cost.data();
    problems.cost_strides[0] = n * n;
    problems.cost_strides[1] = n;
    problems.cost_strides[2] = 1;
    problems.threads = threads;
    problems.index_bits = 32;
    problems.col4row = col4row.data();
    problems.row4col = row4col.data();
    problems.total = total.data();
    problems.u = u.data();
    problems.v = v.data();
    problems.status = status.data();
  }
};

std::atomic<int> handled{0};
void count(int) { ++handled; }
void count_too(int, siginfo_t *, void *) { ++handled; }

struct sigaction handler() {
  struct sigaction now;
  sigaction(SIGINT, nullptr, &now);
  return now;
}

void test_interrupts() {
  for (int form = 0; form < 2; ++form) {
    struct sigaction action = {};
    if (form == 0) {
      action.sa_handler = count;
    } else {
      action.sa_sigaction = count_too;
      action.sa_flags = SA_SIGINFO;
    }
    sigaction(SIGINT, &action, nullptr);
    for (int64_t threads : {1, 3}) {
      Call call(3, 1500, threads), other(1, 1500, 1);
      handled = 0;
      // A second caller at the same time, in a thread of its own, and a small call that goes on.
      std::atomic<int64_t> result{1}, beside{1};
      std::atomic<int> ended{0};
      const auto solve_into = [&ended](std::atomic<int64_t> &to, const Call &from) {
        to = hungarian_solve(&from.problems);
        ++ended;
      };
      std::thread one([&] { solve_into(result, call); });
      std::thread two([&] { solve_into(beside, other); });
      // A thread that starts late listens late.
      int signals = 0;
      Clock::time_point last;
      do {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        last = Clock::now();
        kill(getpid(), SIGINT);
        ++signals;
        while (ended < 2 && seconds_since(last) < 0.5) std::this_thread::yield();
      } while (ended < 2 && signals < 20);
      const double waited = seconds_since(last);
      one.join();
      two.join();
      CHECK(result == HUNGARIAN_INTERRUPTED, "%lld", (long long)result);
      CHECK(beside == HUNGARIAN_INTERRUPTED, "%lld", (long long)beside);
      CHECK(waited < 0.4, "%g s", waited);
      CHECK(handled == signals, "the handler that was there ran %d times", handled.load());
      CHECK(form ? handler().sa_sigaction == count_too : handler().sa_handler == count, "left behind");
      // Nothing is left of it.
      Call next(3, 300, threads), small(1, 20, 1);
      CHECK(hungarian_solve(&next.problems) == 0, "the next call");
      CHECK(hungarian_solve(&small.problems) == 0, "a small call");
      for (int64_t i = 0; i < 300; ++i) CHECK(next.col4row[i] == 299 - i, "row %lld", (long long)i);
    }
  }
  // Where nobody handles the signal, or somebody does from now on, that stays so.
  for (const auto disposition : {SIG_IGN, SIG_DFL}) {
    signal(SIGINT, disposition);
    Call call(1, 500, 1);
    std::atomic<bool> done{false};
    std::thread one([&] {
      CHECK(hungarian_solve(&call.problems) == 0, "ignored");
      done = true;
    });
    while (!done) CHECK(handler().sa_handler == disposition, "a handler where there was none");
    one.join();
  }
  signal(SIGINT, count);
  Call call(3, 500, 1);
  std::thread one([&] { hungarian_solve(&call.problems); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  signal(SIGINT, SIG_IGN);
  one.join();
  CHECK(handler().sa_handler == SIG_IGN, "what was set meanwhile is gone");
}

void test_worker() {
  if (std::getenv("HUNGARIAN_NUM_THREADS")) return;
  hungarian_be_worker();
  CHECK(hungarian_get_num_threads() == 1, "%lld", (long long)hungarian_get_num_threads());
  hungarian_set_num_threads(3);
  CHECK(hungarian_get_num_threads() == 3, "%lld", (long long)hungarian_get_num_threads());
  hungarian_set_num_threads(0);
}

}  // namespace

// With arguments: only the tests of these names.
int main(int argc, char **argv) {
  alarm(300);  // nothing here may hang
  const struct {
    const char *name;
    void (*run)();
  } tests[] = {
      {"ties and layouts", test_ties_and_layouts},
      {"large costs", test_large_costs},
      {"interrupts", test_interrupts},
      {"worker", test_worker},
  };
  for (const auto &test : tests) {
    const auto asks = [&](const char *name) { return !std::strcmp(name, test.name); };
    if (argc > 1 && std::none_of(argv + 1, argv + argc, asks)) continue;
    std::printf("%s: %s\n", hungarian_variant(), test.name);
    std::fflush(stdout);
    test.run();
  }
}
