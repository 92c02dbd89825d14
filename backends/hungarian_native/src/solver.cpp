// The C interface: arguments, the choice of a kernel, and the batch shared out among threads.
#include <stdlib.h>

#include <atomic>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "hungarian.h"
#include "interrupt.h"
#include "kernel.h"
#include "pool.h"

namespace hungarian {
namespace {

constexpr int64_t LARGEST = INT32_MAX - 64;  // places are 32-bit, and padded
constexpr int64_t MOST_THREADS = 1024;
// Waking a thread takes tens of microseconds: each helper must have this much to do.
constexpr double NANOSECONDS_PER_HELPER = 30e3;

std::atomic<int64_t> chosen_threads{0};

struct Variant {
  const char *name;
  SolveOne (*kernel)(int64_t dtype);
  DetectionKernel (*detection)(int64_t dtype);
};

// The newest instruction set that this processor has; HUNGARIAN_VARIANT asks for an older one.
Variant choose_variant() {
  const char *asked = getenv("HUNGARIAN_VARIANT");
  [[maybe_unused]] const char level = !asked ? '9' : asked[0] == 'v' ? asked[1] : '0';
#ifdef HUNGARIAN_HAVE_V4
  if (level >= '4' && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd")) {
    return {"x86-64-v4", kernel_v4, detection_v4};
  }
#endif
#ifdef HUNGARIAN_HAVE_V3
  if (level >= '3' && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
    return {"x86-64-v3", kernel_v3, detection_v3};
  }
#endif
  return {"baseline", kernel_base, detection_base};
}

const Variant &variant() {
  static const Variant chosen = choose_variant();
  return chosen;
}

int64_t available_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned found = std::thread::hardware_concurrency();
  return found ? found : 1;
}

// A positive number in the environment, up to a comma as OpenMP has it, or 0.
int64_t number_in(const char *variable) {
  const char *text = getenv(variable);
  if (!text) return 0;
  char *end = nullptr;
  const long asked = strtol(text, &end, 10);
  if (end == text || (*end != '\0' && *end != ',') || asked <= 0) return 0;
  return asked < MOST_THREADS ? asked : MOST_THREADS;
}

int64_t default_threads() {
  if (const int64_t asked = number_in("HUNGARIAN_NUM_THREADS")) return asked;
  if (worker()) return 1;  // one of many
  // Launchers of one process per device, such as torchrun, set it to keep these out of each
  // other's way.
  if (const int64_t asked = number_in("OMP_NUM_THREADS")) return asked;
  return available_processors();
}

bool valid(const hungarian_batch &p) {
  if (p.abi != HUNGARIAN_ABI || p.dtype < 0 || p.dtype > HUNGARIAN_FLOAT64) return false;
  if (p.batch < 0 || p.n < 0 || p.m < 0 || p.n > LARGEST || p.m > LARGEST) return false;
  if (p.nan < 0 || p.nan > HUNGARIAN_NAN_FORBID || p.threads < 0) return false;
  if (p.index_bits != 32 && p.index_bits != 64) return false;
  if (p.batch == 0) return true;
  if (!p.total || !p.status || (p.n && (!p.col4row || !p.u)) || (p.m && (!p.row4col || !p.v))) {
    return false;
  }
  return p.cost || p.n == 0 || p.m == 0;
}

double nanoseconds(const hungarian_batch &p) {
  const double n = double(p.n), m = double(p.m), least = n < m ? n : m;
  return 100 + 0.3 * n * m + 3 * least * least;
}

// The same where a search goes through everything for each row: how long a call may take.
double nanoseconds_at_worst(const hungarian_batch &p) {
  const double n = double(p.n), m = double(p.m);
  return double(p.batch) * (100 + 0.5 * n * m * (n < m ? n : m));
}

// How many threads a call is worth, of samples that take so long each.
int64_t threads_for(int64_t samples, double nanoseconds_each, int64_t asked) {
  const double worthwhile = 1 + nanoseconds_each * double(samples) / NANOSECONDS_PER_HELPER;
  if (samples < 2 || worthwhile < 2) return 1;  // asking the system takes longer than some calls
  int64_t threads = asked ? asked : hungarian_get_num_threads();
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  if (threads > samples) threads = samples;
  return double(threads) > worthwhile ? int64_t(worthwhile) : threads;
}

// The problems of a detection loss, likewise.
struct Problems {
  const OfOneProblem function;
  const void *const arguments;
  const int64_t problems;
  std::atomic<int64_t> next{0};
  std::atomic<bool> out_of_memory{false};

  static void work(void *self) { static_cast<Problems *>(self)->work(); }

  void work() {
    void *memory = nullptr;
    for (int64_t problem; (problem = next.fetch_add(1, std::memory_order_relaxed)) < problems;) {
      if (function(arguments, problem, &memory)) out_of_memory.store(true, std::memory_order_relaxed);
    }
    free(memory);
  }
};

template <class Arguments>
int64_t for_all(const Arguments &p, OfOneProblem function, double nanoseconds_each) {
  Problems problems{function, &p, p.problems};
  run_together(threads_for(p.problems, nanoseconds_each, p.threads) - 1, Problems::work, &problems);
  return problems.out_of_memory ? int64_t(HUNGARIAN_OUT_OF_MEMORY) : 0;
}

template <class Arguments>
bool sound(const Arguments &p) {
  return p.abi == HUNGARIAN_ABI && p.dtype >= 0 && p.dtype <= HUNGARIAN_FLOAT64 && p.problems >= 0 &&
         p.queries > 0 && p.classes > 0 && p.threads >= 0 && p.logits;
}

// The samples of a call, taken in turns by the threads at work.
struct Batch {
  const hungarian_batch &problems;
  const SolveOne solve;
  const int64_t turn;
  const Interrupt interrupt;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> lost{0};
  std::atomic<bool> out_of_memory{false}, interrupted{false};

  static void work(void *self) { static_cast<Batch *>(self)->work(); }

  void work() {
    Scratch scratch{interrupt};
    for (;;) {
      const int64_t first = next.fetch_add(turn, std::memory_order_relaxed);
      if (first >= problems.batch) break;
      const int64_t end = first + turn < problems.batch ? first + turn : problems.batch;
      int64_t bad = 0;
      for (int64_t b = first; b < end && !interrupt.came(); ++b) {
        const int status = solve(problems, b, scratch);
        if (status == HUNGARIAN_OUT_OF_MEMORY) out_of_memory = true;
        bad += status != HUNGARIAN_SOLVED;
      }
      if (interrupt.came()) {  // whether or not it came too late
        interrupted = true;
        break;
      }
      if (bad) lost.fetch_add(bad, std::memory_order_relaxed);
    }
    free(scratch.state);
    free(scratch.lines);
  }
};

}  // namespace
}  // namespace hungarian

using namespace hungarian;

extern "C" {

int64_t hungarian_solve(const hungarian_batch *problems) {
  if (!problems || !valid(*problems)) return HUNGARIAN_BAD_ARGUMENT;
  const hungarian_batch &p = *problems;
  if (p.batch == 0) return 0;
  const int64_t threads = threads_for(p.batch, nanoseconds(p), p.threads);
  const int64_t turn = threads == 1 ? p.batch : (p.batch + 8 * threads - 1) / (8 * threads);
  const Listener listener(nanoseconds_at_worst(p));
  Batch batch{p, variant().kernel(p.dtype), turn, listener.interrupt()};
  run_together(threads - 1, Batch::work, &batch);
  if (batch.interrupted) return HUNGARIAN_INTERRUPTED;
  return batch.out_of_memory ? int64_t(HUNGARIAN_OUT_OF_MEMORY) : batch.lost.load();
}

int64_t hungarian_matching_cost(const hungarian_matching_costs *costs) {
  if (!costs || !sound(*costs)) return HUNGARIAN_BAD_ARGUMENT;
  const hungarian_matching_costs &p = *costs;
  if (p.class_cost < 0 || p.class_cost > HUNGARIAN_COST_FOCAL_PUBLISHED || p.objects < 0 ||
      (p.softmax && p.classes < 2) || !p.max_logit || !p.log_normaliser || !p.claims_object) {
    return HUNGARIAN_BAD_ARGUMENT;
  }
  if (p.objects && (!p.labels || !p.mask || !p.cost || (p.boxes && !p.true_boxes))) {
    return HUNGARIAN_BAD_ARGUMENT;
  }
  const double each = double(p.queries) * (double(p.objects) * 3 + double(p.classes));
  return for_all(p, variant().detection(p.dtype).matching_cost, each);
}

int64_t hungarian_class_loss(const hungarian_class_losses *losses) {
  if (!losses || !sound(*losses)) return HUNGARIAN_BAD_ARGUMENT;
  const hungarian_class_losses &p = *losses;
  if (p.loss < 0 || p.loss > HUNGARIAN_LOSS_IA_BCE || !p.labels || !p.value || !p.slope ||
      (p.loss == HUNGARIAN_LOSS_SOFTMAX && !p.log_normaliser)) {
    return HUNGARIAN_BAD_ARGUMENT;
  }
  return for_all(p, variant().detection(p.dtype).class_loss, double(p.queries) * double(p.classes) * 2);
}

int64_t hungarian_box_loss(const hungarian_box_losses *losses) {
  if (!losses) return HUNGARIAN_BAD_ARGUMENT;
  const hungarian_box_losses &p = *losses;
  if (p.abi != HUNGARIAN_ABI || p.dtype < 0 || p.dtype > HUNGARIAN_FLOAT64 || p.problems < 0 || p.pairs < 0 ||
      p.threads < 0) {
    return HUNGARIAN_BAD_ARGUMENT;
  }
  if (p.pairs && (!p.boxes || !p.true_boxes || !p.distance || !p.apart || !p.distance_slope || !p.apart_slope)) {
    return HUNGARIAN_BAD_ARGUMENT;
  }
  return for_all(p, variant().detection(p.dtype).box_loss, double(p.pairs) * 40);
}

const char *hungarian_message(int64_t error) {
  switch (error) {
    case HUNGARIAN_BAD_ARGUMENT:
      return "an argument is out of range";
    case HUNGARIAN_OUT_OF_MEMORY:
      return "out of memory";
    case HUNGARIAN_INTERRUPTED:
      return "interrupted by SIGINT";
    default:
      return error < 0 ? "unknown error" : "no error";
  }
}

void hungarian_set_num_threads(int64_t threads) { chosen_threads = threads > 0 ? threads : 0; }

int64_t hungarian_get_num_threads(void) {
  const int64_t chosen = chosen_threads;
  return chosen ? chosen : default_threads();
}

void hungarian_be_worker(void) { be_worker(); }

int64_t hungarian_abi(void) { return HUNGARIAN_ABI; }

const char *hungarian_variant(void) { return variant().name; }

}  // extern "C"
