// The kernels by name, as plan.h calls for them.
#include "detection.cuh"
#include "kernel.cuh"

extern __shared__ __align__(16) char shared_room[];

#define HUNGARIAN_KERNELS(type, suffix)                                                        \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      hungarian_small_##suffix(const __grid_constant__ hungarian_cuda_batch batch) {           \
    __shared__ hungarian::device::Board board;                                                 \
    hungarian::device::solve<type, false>(batch, shared_room, board);                          \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      hungarian_large_##suffix(const __grid_constant__ hungarian_cuda_batch batch) {           \
    __shared__ hungarian::device::Board board;                                                 \
    const int64_t bytes = hungarian::room_of(batch.n, batch.m);                                \
    char *room = static_cast<char *>(batch.workspace) + blockIdx.x * bytes;                    \
    hungarian::device::solve<type, true>(batch, room, board);                                  \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      hungarian_costs_##suffix(const __grid_constant__ hungarian_matching_costs passed) {      \
    __shared__ hungarian::device::Tile<type> tile;                                             \
    hungarian::device::matching_costs<type>(passed, tile);                                     \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      hungarian_classes_##suffix(const __grid_constant__ hungarian_class_losses passed) {      \
    hungarian::device::class_losses<type>(passed);                                             \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                            \
      hungarian_boxes_##suffix(const __grid_constant__ hungarian_box_losses passed) {          \
    hungarian::device::box_losses<type>(passed);                                               \
  }

HUNGARIAN_KERNELS(float, f32)
HUNGARIAN_KERNELS(double, f64)
