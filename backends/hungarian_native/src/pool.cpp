#include "pool.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace hungarian {
namespace {

// Never destroyed: its threads sleep until the process ends.
class Pool {
 public:
  void run(int64_t helpers, void (*work)(void *), void *context) {
    if (taken_.exchange(true, std::memory_order_acquire)) {
      work(context);
      return;
    }
    int64_t called;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      start(helpers);
      work_ = work;
      context_ = context;
      called = wanted_ = helpers < started_ ? helpers : started_;
    }
    for (int64_t k = 0; k < called; ++k) wake_.notify_one();
    work(context);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wanted_ = 0;  // who has not come by now need not come
      done_.wait(lock, [this] { return running_ == 0; });
    }
    taken_.store(false, std::memory_order_release);
  }

 private:
  std::atomic<bool> taken_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void (*work_)(void *) = nullptr;
  void *context_ = nullptr;
  int64_t wanted_ = 0, running_ = 0, started_ = 0;

  void start(int64_t helpers) {
    while (started_ < helpers) {
      std::thread *thread = new (std::nothrow) std::thread;
      if (!thread) return;
      try {
        *thread = std::thread([this] { serve(); });
      } catch (const std::system_error &) {  // no more threads to be had: fewer will do
        delete thread;
        return;
      }
      thread->detach();
      delete thread;
      ++started_;
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return wanted_ > 0; });
      --wanted_;
      ++running_;
      auto work = work_;
      auto context = context_;
      lock.unlock();
      work(context);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }
};

std::atomic<Pool *> pool{nullptr};
std::atomic<bool> is_worker{false};

// The threads of the parent do not exist here, and its locks may be held by them: begin anew.
void after_fork() {
  pool.store(nullptr, std::memory_order_relaxed);
  is_worker.store(true, std::memory_order_relaxed);
}

struct AtFork {
#if defined(__unix__) || defined(__APPLE__)
  AtFork() { pthread_atfork(nullptr, nullptr, after_fork); }
#endif
} at_fork;

}  // namespace

bool worker() { return is_worker.load(std::memory_order_relaxed); }

void be_worker() { is_worker.store(true, std::memory_order_relaxed); }

void run_together(int64_t helpers, void (*work)(void *), void *context) {
  if (helpers <= 0) {
    work(context);
    return;
  }
  Pool *here = pool.load(std::memory_order_acquire);
  if (!here) {
    Pool *fresh = new (std::nothrow) Pool;
    if (!fresh) {
      work(context);
      return;
    }
    if (pool.compare_exchange_strong(here, fresh, std::memory_order_acq_rel)) {
      here = fresh;
    } else {
      delete fresh;
    }
  }
  here->run(helpers, work, context);
}

}  // namespace hungarian
