// Exact batched assignment: a block of threads for each problem.
#ifndef HUNGARIAN_CUDA_KERNEL_CUH
#define HUNGARIAN_CUDA_KERNEL_CUH

#include "bids.cuh"
#include "paths.cuh"
#include "problem.cuh"
#include "results.cuh"

namespace hungarian {
namespace device {

// Solves the problem of this block, in working memory of `room_of` bytes (plan.h). LARGE_PROBLEM
// says that lines are so long that the whole block goes along them.
template <class T, bool LARGE_PROBLEM>
__device__ void solve(const hungarian_cuda_batch &batch, char *room, Board &board) {
  Problem<T> problem(batch, board);
  if (!problem.prepare(room)) {
    problem.write(HUNGARIAN_INVALID);
    return;
  }
  problem.bid_all_at_once();
  if (LARGE_PROBLEM || problem.warp == 0) {
    const bool found = problem.template search_for_the_rest<LARGE_PROBLEM>();
    if (problem.thread == 0) board.status = found ? HUNGARIAN_SOLVED : HUNGARIAN_INFEASIBLE;
  }
  __syncthreads();
  problem.write(board.status);
}

}  // namespace device
}  // namespace hungarian

#endif
