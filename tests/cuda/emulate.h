// The few names of CUDA that the kernel uses, on a CPU.
//
// A thread of CUDA is a fiber, run in turns until it meets a barrier or a collective of its warp:
// fast, and the same at every run. With EMULATE_BY_THREADS it is a thread of the system, for
// ThreadSanitizer, which then finds a barrier that is missing.
#ifndef HUNGARIAN_EMULATE_H
#define HUNGARIAN_EMULATE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <vector>

#define __device__
#define __host__

namespace emulation {

struct Index {
  int x;
};

// What the lanes of a warp show each other.
struct Warp {
  uint64_t shown[32];
};

inline std::vector<Warp> warps;

}  // namespace emulation

#ifdef EMULATE_BY_THREADS

#include <barrier>
#include <memory>
#include <thread>

namespace emulation {

inline thread_local Index thread_index, block_index;
inline std::unique_ptr<std::barrier<>> of_block;
inline std::vector<std::unique_ptr<std::barrier<>>> of_warp;

inline void meet_warp() { of_warp[thread_index.x / 32]->arrive_and_wait(); }
inline void meet_block() { of_block->arrive_and_wait(); }

inline void run_block(int block, int threads, const std::function<void()> &kernel) {
  warps.assign(threads / 32, {});
  of_block = std::make_unique<std::barrier<>>(threads);
  of_warp.clear();
  for (int w = 0; w < threads / 32; ++w) of_warp.push_back(std::make_unique<std::barrier<>>(32));
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      thread_index = {t};
      block_index = {block};
      kernel();
    });
  }
  for (std::thread &thread : all) thread.join();
}

}  // namespace emulation

#define threadIdx (emulation::thread_index)
#define blockIdx (emulation::block_index)

inline int atomicAdd(int *sum, int x) { return __atomic_fetch_add(sum, x, __ATOMIC_RELAXED); }

#else

#include <ucontext.h>

namespace emulation {

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  State state = READY;
};

inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline const std::function<void()> *body;
inline int current;
inline Index thread_index, block_index;

inline void pause(State state) {
  Fiber &self = fibers[current];
  self.state = state;
  swapcontext(&self.context, &scheduler);
}

inline void meet_warp() { pause(AT_WARP); }
inline void meet_block() { pause(AT_BLOCK); }

inline void start() {
  (*body)();
  fibers[current].state = DONE;
}

inline int count(State state, size_t first, size_t last) {
  int found = 0;
  for (size_t t = first; t < last; ++t) found += fibers[t].state == state;
  return found;
}

inline void wake(State state, size_t first, size_t last) {
  for (size_t t = first; t < last; ++t) {
    if (fibers[t].state == state) fibers[t].state = READY;
  }
}

// Runs the fibers of a warp until none of them can go on.
inline void run_warp(size_t first) {
  for (;;) {
    for (size_t t = first; t < first + 32; ++t) {
      if (fibers[t].state != READY) continue;
      current = int(t);
      thread_index = {int(t)};
      swapcontext(&scheduler, &fibers[t].context);
    }
    const int waiting = count(AT_WARP, first, first + 32);
    if (waiting == 0) return;
    if (waiting + count(DONE, first, first + 32) < 32) {
      fprintf(stderr, "some lanes of a warp are at a collective, and others at a barrier\n");
      abort();
    }
    wake(AT_WARP, first, first + 32);
  }
}

inline void run_block(int block, int threads, const std::function<void()> &kernel) {
  warps.assign(threads / 32, {});
  fibers.resize(threads);
  body = &kernel;
  block_index = {block};
  for (Fiber &fiber : fibers) {
    fiber.state = READY;
    fiber.stack.resize(1 << 16);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, start, 0);
  }
  const size_t all = fibers.size();
  while (count(DONE, 0, all) < threads) {
    for (size_t first = 0; first < all; first += 32) run_warp(first);
    if (count(AT_BLOCK, 0, all) + count(DONE, 0, all) == threads) wake(AT_BLOCK, 0, all);
  }
}

}  // namespace emulation

#define threadIdx (emulation::thread_index)
#define blockIdx (emulation::block_index)

inline int atomicAdd(int *sum, int x) {
  const int before = *sum;
  *sum += x;
  return before;
}

#endif

inline void __syncthreads() { emulation::meet_block(); }
inline void __syncwarp() { emulation::meet_warp(); }

// Shows a value to the warp and reads what others show.
template <class V, class F>
auto exchange(V x, F read) {
  emulation::Warp &warp = emulation::warps[threadIdx.x / 32];
  uint64_t raw = 0;
  memcpy(&raw, &x, sizeof x);
  warp.shown[threadIdx.x % 32] = raw;
  emulation::meet_warp();
  const auto found = read(warp.shown);
  emulation::meet_warp();
  return found;
}

template <class V>
V __shfl_xor_sync(unsigned, V x, int step) {
  const int lane = threadIdx.x % 32;
  return exchange(x, [=](const uint64_t *shown) {
    V other;
    memcpy(&other, &shown[lane ^ step], sizeof other);
    return other;
  });
}

inline unsigned __ballot_sync(unsigned, bool x) {
  return exchange(x, [](const uint64_t *shown) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) votes |= unsigned(shown[lane] != 0) << lane;
    return votes;
  });
}

inline bool __any_sync(unsigned lanes, bool x) { return __ballot_sync(lanes, x) != 0; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }

#endif
