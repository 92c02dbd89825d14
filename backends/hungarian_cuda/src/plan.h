// How a batch is launched, by its shape alone: results never depend on a device or on timing.
#ifndef HUNGARIAN_CUDA_PLAN_H
#define HUNGARIAN_CUDA_PLAN_H

#include "hungarian_cuda.h"

namespace hungarian {

constexpr int WARPS = 8;  // of a block, which solves one problem
constexpr int TILE = 32;  // queries of a block of matching costs, one for each lane
constexpr int64_t MOST_SHARED = 40 * 1024;  // of the 48 KiB that every device has, less the rest
constexpr int64_t MOST_PLACES = 0x7fffffff - 64;  // places are 32-bit
constexpr int64_t MOST_PROBLEMS = 0x7fffffff;     // blocks of a grid

struct Plan {
  const char *kernel;
  unsigned threads, shared;
  int64_t workspace;  // of one problem
};

// What a problem keeps: 36 bytes for each item and 12 for each bidder, whichever side bids.
inline int64_t room_of(int64_t n, int64_t m) {
  const int64_t bytes = 36 * (n > m ? n : m) + 12 * (n > m ? n : m) + 64;
  return (bytes + 63) / 64 * 64;
}

inline bool sound(const hungarian_cuda_batch &p) {
  if (p.abi != HUNGARIAN_CUDA_ABI || p.dtype < 0 || p.dtype > HUNGARIAN_FLOAT64) return false;
  if (p.batch < 0 || p.batch > MOST_PROBLEMS || p.n < 0 || p.n > MOST_PLACES || p.m < 0 ||
      p.m > MOST_PLACES || p.nan < 0 || p.nan > HUNGARIAN_NAN_FORBID) {
    return false;
  }
  return p.index_bits == 32 || p.index_bits == 64;
}

inline Plan plan(const hungarian_cuda_batch &p) {
  const int64_t room = room_of(p.n, p.m);
  const bool small = room <= MOST_SHARED;
  const bool wide = p.dtype == HUNGARIAN_FLOAT64;
  const char *kernel = small ? (wide ? "hungarian_small_f64" : "hungarian_small_f32")
                             : (wide ? "hungarian_large_f64" : "hungarian_large_f32");
  return {kernel, 32 * WARPS, small ? unsigned(room) : 0, small ? 0 : room};
}

inline int64_t tiles_of(int64_t queries) { return (queries + TILE - 1) / TILE; }

// Whether a call passes over so many queries or pairs, each with so many others.
template <class Passed>
bool sound(const Passed &p, int64_t each, int64_t others) {
  const bool known = p.abi == HUNGARIAN_CUDA_ABI && p.dtype >= 0 && p.dtype <= HUNGARIAN_FLOAT64;
  return known && p.problems >= 0 && each >= 0 && others >= 0 && (!each || p.problems <= MOST_PLACES / each);
}

// How many blocks a pass over detections takes; -1 if there is no such call.
inline int64_t blocks_of(const hungarian_matching_costs &p) {
  return sound(p, p.queries, p.objects) ? p.problems * tiles_of(p.queries) : -1;
}

inline int64_t blocks_of(const hungarian_class_losses &p) {
  return sound(p, p.queries, p.classes) ? (p.problems * p.queries + WARPS - 1) / WARPS : -1;
}

inline int64_t blocks_of(const hungarian_box_losses &p) {
  return sound(p, p.pairs, 0) ? (p.problems * p.pairs + 32 * WARPS - 1) / (32 * WARPS) : -1;
}

}  // namespace hungarian

#endif
