// A CUDA driver for tests: its one device is this CPU, and its kernels are the library's own.
//
// What the launcher packs is what a kernel gets. Streams are in order, as there is only one.
#include <map>
#include <string>

#include "emulate.h"

#include "kernel.cuh"
#include "plan.h"

namespace {

using Kernel = void (*)(const hungarian_cuda_batch &, char *, hungarian::device::Board &);

const std::map<std::string, Kernel> KERNELS = {
    {"hungarian_small_f32", hungarian::device::solve<float, false>},
    {"hungarian_small_f64", hungarian::device::solve<double, false>},
    {"hungarian_large_f32", hungarian::device::solve<float, true>},
    {"hungarian_large_f64", hungarian::device::solve<double, true>},
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
  const hungarian_cuda_batch batch = *static_cast<hungarian_cuda_batch *>(parameters[0]);
  const int64_t room = hungarian::room_of(batch.n, batch.m);
  if (threads != 32 * hungarian::WARPS) return 1;
  // What a device gives a kernel that does not ask for more, the board included.
  if (shared + sizeof(hungarian::device::Board) > 48 * 1024) return 1;
  std::vector<double> memory(shared / 8 + 1);  // a sanitizer sees what is read beyond it
  for (unsigned block = 0; block < x; ++block) {
    char *at = shared ? reinterpret_cast<char *>(memory.data())
                      : static_cast<char *>(batch.workspace) + block * room;
    hungarian::device::Board board = {};  // a missing barrier is to be seen, not to crash
    emulation::run_block(int(block), int(threads), [&] {
      (*static_cast<const Kernel *>(function))(batch, at, board);
    });
  }
  ++launches;
  return 0;
}
}
