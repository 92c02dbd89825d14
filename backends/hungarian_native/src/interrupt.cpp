#include "interrupt.h"

#if defined(__unix__) || defined(__APPLE__)
#define HUNGARIAN_SIGNALS 1
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#endif

#include <atomic>
#include <thread>

namespace hungarian {
namespace {

constexpr double LONG = 50e6;  // nanoseconds: below, nobody waits for the end of a call
const uint32_t never = 0;

#ifdef HUNGARIAN_SIGNALS

using Plain = void (*)(int);
using Informed = void (*)(int, siginfo_t *, void *);

uint32_t interrupts = 0;
// The handler that was found, in one form or the other: read inside our own, so without a lock.
std::atomic<Plain> plain{nullptr};
std::atomic<Informed> informed{nullptr};

// What follows is guarded. No mutex: a forked child must be able to open it.
std::atomic<bool> locked{false};
int64_t listeners = 0;
struct sigaction found;

class Guard {
 public:
  Guard() {
    while (locked.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  ~Guard() { locked.store(false, std::memory_order_release); }
};

void on_interrupt(int signal, siginfo_t *info, void *context) {
  const int error = errno;
  __atomic_fetch_add(&interrupts, 1u, __ATOMIC_RELAXED);
  if (const Informed next = informed.load()) {
    next(signal, info, context);
  } else if (const Plain next = plain.load()) {
    next(signal);
  }
  errno = error;
}

bool ours(const struct sigaction &action) {
  return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == on_interrupt;
}

void install() {
  struct sigaction now;
  if (sigaction(SIGINT, nullptr, &now) != 0 || ours(now)) return;
  const bool with_info = now.sa_flags & SA_SIGINFO;
  if (!with_info && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN)) return;
  found = now;
  if (with_info) {
    informed = now.sa_sigaction;
  } else {
    plain = now.sa_handler;
    informed = nullptr;
  }
  struct sigaction action = now;
  action.sa_sigaction = on_interrupt;
  action.sa_flags = (now.sa_flags | SA_SIGINFO) & ~int(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

// Unless somebody else has set another since.
void restore() {
  struct sigaction now;
  if (sigaction(SIGINT, nullptr, &now) == 0 && ours(now)) sigaction(SIGINT, &found, nullptr);
}

// The threads that listened do not exist here.
void after_fork() {
  listeners = 0;
  locked = false;
}

struct AtFork {
  AtFork() { pthread_atfork(nullptr, nullptr, after_fork); }
} at_fork;

#endif

}  // namespace

Listener::Listener(double nanoseconds) : interrupt_{&never, 0} {
#ifdef HUNGARIAN_SIGNALS
  if (nanoseconds < LONG) return;
  listens_ = true;
  const Guard guard;
  interrupt_ = {&interrupts, __atomic_load_n(&interrupts, __ATOMIC_RELAXED)};
  ++listeners;
  install();
#else
  (void)nanoseconds;
#endif
}

Listener::~Listener() {
#ifdef HUNGARIAN_SIGNALS
  if (!listens_) return;
  const Guard guard;
  if (--listeners == 0) restore();
#endif
}

}  // namespace hungarian
