#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

namespace hungarian {
namespace {

char reason[512];

// Look a function up; false, with the reason, if there is none.
template <class F>
bool look_up(void *library, const char *name, F *&function) {
  function = reinterpret_cast<F *>(dlsym(library, name));
  if (!function) snprintf(reason, sizeof reason, "the CUDA driver has no %s: it is too old", name);
  return function;
}

const Driver *open() {
  static Driver d;
  // A driver of the tests stands in for the system's where there is no GPU.
  const char *asked = getenv("HUNGARIAN_LIBCUDA");
  void *library = dlopen(asked ? asked : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(reason, sizeof reason, "There is no CUDA driver here: %s", dlerror());
    return nullptr;
  }
  const bool whole =
      look_up(library, "cuInit", d.cuInit) &&
      look_up(library, "cuDriverGetVersion", d.cuDriverGetVersion) &&
      look_up(library, "cuGetErrorString", d.cuGetErrorString) &&
      look_up(library, "cuDeviceGetCount", d.cuDeviceGetCount) &&
      look_up(library, "cuDeviceGet", d.cuDeviceGet) &&
      look_up(library, "cuDeviceGetName", d.cuDeviceGetName) &&
      look_up(library, "cuDeviceGetAttribute", d.cuDeviceGetAttribute) &&
      look_up(library, "cuPointerGetAttribute", d.cuPointerGetAttribute) &&
      look_up(library, "cuDevicePrimaryCtxRetain", d.cuDevicePrimaryCtxRetain) &&
      look_up(library, "cuCtxGetCurrent", d.cuCtxGetCurrent) &&
      look_up(library, "cuCtxPushCurrent_v2", d.cuCtxPushCurrent) &&
      look_up(library, "cuCtxPopCurrent_v2", d.cuCtxPopCurrent) &&
      look_up(library, "cuThreadExchangeStreamCaptureMode", d.cuThreadExchangeStreamCaptureMode) &&
      look_up(library, "cuModuleLoadData", d.cuModuleLoadData) &&
      look_up(library, "cuModuleGetFunction", d.cuModuleGetFunction) &&
      look_up(library, "cuLaunchKernel", d.cuLaunchKernel);
  if (!whole) return nullptr;
  if (const CUresult error = d.cuInit(0)) {
    const char *text = nullptr;
    d.cuGetErrorString(error, &text);
    snprintf(reason, sizeof reason, "the CUDA driver does not start: %s (error %d)",
             text ? text : "unknown", error);
    return nullptr;
  }
  return &d;
}

}  // namespace

const Driver *find_driver(const char **why) {
  static const Driver *const found = open();
  if (why) *why = found ? "" : reason;
  return found;
}

}  // namespace hungarian
