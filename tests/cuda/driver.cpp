// A CUDA driver for tests: its one device is this CPU, and its kernels are the library's own.
//
// What the launcher packs is what a kernel gets. Streams are in order, as there is only one.
#include <functional>
#include <map>
#include <string>

#include "emulate.h"

#include "detection.cuh"
#include "kernel.cuh"
#include "plan.h"

namespace {

// Of a grid: how many blocks, how much shared memory a launch asks for, and what it hands over.
using Grid = std::function<bool(unsigned blocks, unsigned shared, const void *parameter)>;

template <class T, bool LARGE_PROBLEM>
bool solve(unsigned blocks, unsigned shared, const void *parameter) {
  const hungarian_cuda_batch batch = *static_cast<const hungarian_cuda_batch *>(parameter);
  const int64_t room = hungarian::room_of(batch.n, batch.m);
  // What a device gives a kernel that does not ask for more, the board included.
  if (shared + sizeof(hungarian::device::Board) > 48 * 1024) return false;
  std::vector<double> memory(shared / 8 + 1);  // a sanitizer sees what is read beyond it
  for (unsigned block = 0; block < blocks; ++block) {
    char *at = shared ? reinterpret_cast<char *>(memory.data())
                      : static_cast<char *>(batch.workspace) + block * room;
    hungarian::device::Board board = {};  // a missing barrier is to be seen, not to crash
    emulation::run_block(int(block), 32 * hungarian::WARPS, [&] {
      hungarian::device::solve<T, LARGE_PROBLEM>(batch, at, board);
    });
  }
  return true;
}

template <class Passed, class Kernel>
Grid pass(Kernel kernel) {
  return [kernel](unsigned blocks, unsigned, const void *parameter) {
    const Passed passed = *static_cast<const Passed *>(parameter);
    for (unsigned block = 0; block < blocks; ++block) kernel(passed, int(block));
    return true;
  };
}

template <class T>
Grid costs() {
  return pass<hungarian_matching_costs>([](const auto &passed, int block) {
    hungarian::device::Tile<T> tile = {};
    emulation::run_block(block, 32 * hungarian::WARPS, [&] {
      hungarian::device::matching_costs<T>(passed, tile);
    });
  });
}

template <class T>
Grid classes() {
  return pass<hungarian_class_losses>([](const auto &passed, int block) {
    emulation::run_block(block, 32 * hungarian::WARPS, [&] { hungarian::device::class_losses<T>(passed); });
  });
}

template <class T>
Grid boxes() {
  return pass<hungarian_box_losses>([](const auto &passed, int block) {
    emulation::run_block(block, 32 * hungarian::WARPS, [&] { hungarian::device::box_losses<T>(passed); });
  });
}

const std::map<std::string, Grid> KERNELS = {
    {"hungarian_small_f32", solve<float, false>},  {"hungarian_small_f64", solve<double, false>},
    {"hungarian_large_f32", solve<float, true>},   {"hungarian_large_f64", solve<double, true>},
    {"hungarian_costs_f32", costs<float>()},       {"hungarian_costs_f64", costs<double>()},
    {"hungarian_classes_f32", classes<float>()},   {"hungarian_classes_f64", classes<double>()},
    {"hungarian_boxes_f32", boxes<float>()},       {"hungarian_boxes_f64", boxes<double>()},
};

int context_now = 0, launches = 0;

}  // namespace

extern "C" {

int cuInit(unsigned) { return getenv("MOCK_CUDA_BROKEN") ? 100 : 0; }
int cuDriverGetVersion(int *version) { return *version = 12000, 0; }
int cuGetErrorString(int, const char **text) { return *text = "an error of the tests", 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int) { return *device = 0, 0; }
int cuDeviceGetName(char *name, int length, int) { return snprintf(name, length, "emulated"), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) { return *value = attribute == 75 ? 9 : 0, 0; }
int cuPointerGetAttribute(void *value, int, uint64_t) { return *static_cast<int *>(value) = 0, 0; }
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &context_now, 0; }
int cuCtxGetCurrent(void **context) { return *context = nullptr, 0; }
int cuCtxPushCurrent_v2(void *) { return 0; }
int cuCtxPopCurrent_v2(void **) { return 0; }
int cuThreadExchangeStreamCaptureMode(int *) { return 0; }

int cuModuleLoadData(void **module, const void *image) {
  *module = &launches;
  return strstr(static_cast<const char *>(image), ".target sm_") ? 0 : 200;
}

int cuModuleGetFunction(void **function, void *, const char *name) {
  const auto found = KERNELS.find(name);
  if (found == KERNELS.end()) return 500;
  *function = const_cast<void *>(static_cast<const void *>(&found->second));
  return 0;
}

int cuLaunchKernel(void *function, unsigned x, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                   unsigned shared, void *, void **parameters, void **) {
  if (threads != 32 * hungarian::WARPS) return 1;
  if (!(*static_cast<const Grid *>(function))(x, shared, parameters[0])) return 1;
  ++launches;
  return 0;
}
}
