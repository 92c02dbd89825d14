// Bids of many bidders at once. Each warp bids for one; where two want the same item, the one to
// whom it is worth more gets it, of equals the one who came first. That settles nearly all bidders
// of a detection loss; who cannot bid to advantage is left to the shortest paths.
#ifndef HUNGARIAN_CUDA_BIDS_CUH
#define HUNGARIAN_CUDA_BIDS_CUH

#include "problem.cuh"

namespace hungarian {
namespace device {

template <class T>
__device__ void Problem<T>::bid_all_at_once() {
  const int all = board.waiting;
  // Bids that differ by the last bit could go on for as long as there are numbers between.
  const int rounds = (all + WARPS - 1) / WARPS + 2 * all + 16;
  for (int round = 0; round < rounds && board.waiting > 0; ++round) {
    const int count = board.waiting < WARPS ? board.waiting : WARPS;
    if (warp < count) bid(count);
    __syncthreads();
    if (warp == 0) settle(count);
    __syncthreads();
  }
}

// Finds what the bidder of this warp wants, and what it is worth to it beyond the next best.
template <class T>
__device__ void Problem<T>::bid(int) {
  const int i = queue[(board.head + warp) % bidders];
  const T *line = cost + i * down;
  Best best = {INF, INF, NOWHERE};
  for (int j = lane; j < items; j += 32) {
    join(best, heeded(double(line[j * right])) - v[j], INF, (owner[j] < 0 ? 0 : TAKEN) | j);
  }
  best = of_warp(best);
  if (price) join(best, price_of(i), INF, LEAVE);
  if (lane != 0) return;
  // Where there is no second best the item could be had at any price: paths find what it is worth.
  const double gain = best.second < INF ? best.second - best.least : 0.0;
  const bool leaves = best.at == LEAVE && best.least < INF;
  const bool able = best.least < INF && (leaves || gain > 0 || best.at < TAKEN);
  board.who[warp] = i;
  board.gains[warp] = able ? gain : -1.0;
  board.place[warp] = leaves ? LEFT : best.at & (TAKEN - 1);
}

// Hands over the items that were bid for. Warp 0, a lane for each bid.
template <class T>
__device__ void Problem<T>::settle(int count) {
  const bool here = lane < count;
  const int i = here ? board.who[lane] : NONE, j = here ? board.place[lane] : NONE;
  const double gain = here ? board.gains[lane] : -1.0;
  bool beaten = false;
  for (int other = 0; here && j != LEFT && other < count; ++other) {
    if (other == lane || board.place[other] != j || board.gains[other] < 0) continue;
    beaten |= board.gains[other] > gain || (board.gains[other] == gain && other < lane);
  }
  const bool defers = here && gain < 0;
  const bool wins = here && !defers && !beaten;
  int displaced = NONE;
  if (wins && j == LEFT) {
    item[i] = LEFT;
  } else if (wins) {
    displaced = owner[j];
    v[j] -= gain;
    owner[j] = i;
    item[i] = j;
    if (displaced != NONE) item[displaced] = NONE;
  }
  // Who was beaten is first to bid again, who was displaced is last: of equal costs the first
  // bidder then gets the first item, and so on.
  const unsigned below = (1u << lane) - 1;
  const unsigned lost = __ballot_sync(ALL, beaten && !defers);
  const unsigned put = __ballot_sync(ALL, defers), out = __ballot_sync(ALL, displaced != NONE);
  const int head = board.head, waiting = board.waiting, deferred = board.deferred;
  const int64_t front = int64_t(head) + count - __popc(lost), back = int64_t(head) + waiting;
  __syncwarp();
  if (beaten && !defers) queue[(front + __popc(lost & below)) % bidders] = i;
  if (displaced != NONE) queue[(back + __popc(out & below)) % bidders] = displaced;
  if (defers) later[deferred + __popc(put & below)] = i;
  if (lane == 0) {
    board.head = int(front % bidders);
    board.waiting = waiting - count + __popc(lost) + __popc(out);
    board.deferred = deferred + __popc(put);
  }
}

}  // namespace device
}  // namespace hungarian

#endif
