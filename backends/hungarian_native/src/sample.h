// One sample on its way to a solution: what the parts of the algorithm share.
//
// The bidders are the smaller side, the rows of equals, or the rows where they may leave at a price;
// the other side are the items. Duals are double whatever the costs: u[i] + v[j] <= cost[i][j], with
// equality on matched pairs. A bidder that takes an item lowers the dual of that item only, so the
// dual of a free item stays 0 where there are more items than bidders, as an optimum requires.
#ifndef HUNGARIAN_SAMPLE_H
#define HUNGARIAN_SAMPLE_H

#include "kernel.h"
#include "lanes.h"

namespace {

using namespace hungarian;

constexpr double INF = __builtin_inf();
constexpr double LARGEST = 1.7976931348623157e308;
constexpr int NONE = -1;
constexpr int LEFT = -2;          // of a bidder: gone at its price
constexpr int BLOCK = 16;         // lines transposed together: a cache line of floats
constexpr int NOT_SOUND = -1000;  // entries that cannot be compared
constexpr int BEYOND = -1001;     // a dual beyond the largest number
// What costs are scaled by then: room for the sum of all, and exact but for the least of numbers.
constexpr double SMALLER = 0x1p-40;
constexpr double LARGE = 0x1p1000;  // below, nothing on the way to a solution can overflow
constexpr int SHORTLIST = 32;     // most items of a shortlist
constexpr int ROOM = SHORTLIST + WIDTH;
constexpr int GROUP = 64;        // entries of the queue whose least is kept
constexpr double GONE = -INF;    // of a key: taken from the queue

// All extents in memory are whole registers of any type.
inline int64_t padded(int64_t x) { return (x + BLOCK - 1) & ~int64_t(BLOCK - 1); }

// The two least slacks of a line and the first place of the least.
struct Bid {
  double least, second;
  int at;
};

// The items of a shortlist, padded to whole registers by infinite costs.
struct List {
  const double *costs;
  const int *items;
  int length;

  F64 slacks(int k, const double *duals) const { return load(costs + k) - gather(duals, items + k); }
};

template <class T>
class Sample {
 public:
  Sample(const hungarian_batch &problems, int64_t b, Scratch &memory)
      : p(problems), sample(b), scratch(memory), interrupt(memory.interrupt),
        sign(problems.maximize ? -1.0 : 1.0) {}

  // Returns a hungarian_status, HUNGARIAN_OUT_OF_MEMORY or HUNGARIAN_INTERRUPTED.
  int solve() {
    if (!prepare()) return stopped ? HUNGARIAN_INTERRUPTED : HUNGARIAN_OUT_OF_MEMORY;
    int status = attempt();
    if (status == NOT_SOUND && p.nan == HUNGARIAN_NAN_WORST) {
      if (!repair()) return stopped ? HUNGARIAN_INTERRUPTED : HUNGARIAN_OUT_OF_MEMORY;
      status = attempt();
    }
    if (sizeof(T) == sizeof(double) && (status == BEYOND || may_have_overflowed(status))) {
      sign *= SMALLER;
      status = attempt();
    }
    if (stopped) return HUNGARIAN_INTERRUPTED;
    if (status == NOT_SOUND) status = HUNGARIAN_INVALID;
    write(status);
    return status;
  }

 private:
  using Lane = Own<T>;

  const hungarian_batch &p;
  const int64_t sample;
  Scratch &scratch;
  const Interrupt interrupt;
  double sign;           // -1 where the greatest total is sought; smaller for costs near the largest
  bool beyond = false;   // a dual has overflowed
  bool stopped = false;  // by an interrupt

  // The costs, as rows that are contiguous in memory: those of the sample or of its transpose.
  const T *table = nullptr;
  int64_t stride = 0;
  int height = 0, width = 0;
  T *last = nullptr;    // a padded copy of the last row: the others may be read beyond their end
  bool turned = false;  // a row of the table is a column of the sample
  bool along = false;   // a bidder's line is a row of the table
  T *lines = nullptr;   // else the lines, transposed in blocks when first asked for
  uint8_t *ready = nullptr;  // [bidders / BLOCK]

  bool rows_bid = true;
  int bidders = 0, items = 0;
  const uint8_t *bidder_mask = nullptr, *item_mask = nullptr;
  int count = 0, valid_items = 0;  // how many bidders and items are valid
  int *ids = nullptr;              // [count] the valid bidders, ascending
  double *price = nullptr;         // [bidders] or null
  bool unsound = false;            // an entry has been met that cannot be compared

  // The state of the matching.
  double *v = nullptr;     // [items] duals; -inf where an item is not to be chosen
  double *busy = nullptr;  // [items] 0 if free, inf if taken: added to a slack, it leaves free ones
  int *owner = nullptr;    // [items] the bidder, or NONE
  int *item = nullptr;     // [bidders] the item, NONE or LEFT
  int *queue = nullptr;    // [count] bidders that wait

  // The least and second costs of each column of the table, or in `low` which items are valid.
  T *low = nullptr, *next = nullptr;
  typename Lane::Index *place = nullptr;

  // The search for a shortest path.
  double *distance = nullptr;  // [items] from the root
  int *via = nullptr;          // [items] the bidder before, on the path
  int *settled = nullptr;      // items whose distance is final, in order
  double *levels = nullptr;    // [items] those distances
  double *saved = nullptr;     // [items] their duals, while v holds -inf

  // Shortlists. A bidder's list has every item whose slack was below `bound` when it was made.
  // Duals only fall, so slacks only grow: items off the list have a slack of `bound` or more.
  bool shortlists = false;
  double *candidate_cost = nullptr;  // [bidders, ROOM]
  int *candidate = nullptr;          // [bidders, ROOM]
  int *length = nullptr;             // [bidders], NONE before the list is made
  double *bound = nullptr;           // [bidders]
  double *origin = nullptr;          // [bidders] what a path to the bidder adds to its slacks
  double *key = nullptr;             // [bidders + items] the queue of a search
  double *group = nullptr;           // [groups] the least key of each group
  int groups = 0;
  int *touched = nullptr, *reached_items = nullptr;  // what to reset after a search
  int touched_count = 0;
  bool queue_ready = false;
  int64_t list_steps = 0, line_steps = 0;  // paths extended along lists, along whole lines

  const T *row(int r) const { return r == height - 1 ? last : table + r * stride; }
  T cost_at(int i, int j) const { return read<T>(along ? row(i) + j : row(j) + i); }
  const T *line(int i) {
    if (along) return row(i);
    if (!ready[i / BLOCK]) transpose(i / BLOCK);
    return lines + i * padded(items);
  }
  bool interrupted() {
    if (__builtin_expect(!interrupt.came(), 1)) return false;
    return stopped = true;  // it stays so
  }
  void lower(int j, double by) {
    v[j] -= by;
    beyond |= v[j] == -INF;
  }
  void give(int i, int j) {
    owner[j] = i;
    busy[j] = INF;
    item[i] = j;
  }

  // layout.h
  bool prepare();
  size_t lay_out(uintptr_t base);
  static int count_valid(const uint8_t *mask, int extent);
  void copy_last();
  template <class F>
  void copy_through(T *to, int64_t down, int64_t right, F through);
  void transpose(int block);
  bool repair();
  bool may_have_overflowed(int status) const;
  bool has_large_entries() const;
  void write(int status) const;
  template <class Index>
  void write_matches(int status) const;

  // bidding.h
  int attempt();
  void reset();
  int all_leave();
  bool read_unmatched_costs();
  int reduce_columns();
  void flag_valid(const uint8_t *mask);
  int bid_along();
  int bid_across();
  bool claim(int i, const Bid &bid);
  int bid(int waiting);

  // passes.h
  template <bool MASKED>
  Bid two_least(const T *costs);
  bool least_per_column(const uint8_t *columns, const uint8_t *rows);
  template <int MANY>
  bool strip(int from, const uint8_t *columns, const uint8_t *rows);
  bool stream(const uint8_t *columns, const uint8_t *rows);
  Bid least_slacks(const T *costs) const;
  Bid few_slacks(const T *costs) const;
  int free_at(int i, double least);

  // paths.h
  bool search(int root);
  template <bool FROM_ROOT>
  void relax(const T *costs, double ahead, int i, double &nearest, int &at, int &free_item);
  bool hand_over(int root, int end, int leaver);

  // shortlists.h
  Bid best(int i);
  List list_of(int i) const {
    return {candidate_cost + int64_t(i) * ROOM, candidate + int64_t(i) * ROOM, length[i]};
  }
  void shortlist(int i);
  bool search_by_lists(int root);
  template <class F>
  void extend_by_line(int i, double ahead, double &nearest_free, F &arrive);
  void enqueue(int node, double at);
  double nearest_queued() const;
  int dequeue(double nearest);
};

}  // namespace

#endif
