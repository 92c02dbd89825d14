// The host half: launches the kernel through the driver. It waits for nothing and reads nothing.
#include <stdio.h>

#include <map>
#include <mutex>
#include <string>

#include "driver.h"
#include "hungarian_cuda.h"
#include "plan.h"

// The kernels as PTX, which a driver compiles for the device that it finds, now or years from now.
__asm__(
    ".section .rodata\n"
    ".global hungarian_ptx\n"
    ".hidden hungarian_ptx\n"
    "hungarian_ptx:\n"
    ".incbin \"" HUNGARIAN_PTX "\"\n"
    ".byte 0\n"
    ".previous\n");
extern "C" const char hungarian_ptx[];

namespace hungarian {
namespace {

thread_local std::string message;

int64_t failed(int64_t error, const std::string &what) {
  message = what;
  return error;
}

int64_t refused(const Driver &driver, const std::string &what, CUresult error) {
  const char *text = nullptr;
  driver.cuGetErrorString(error, &text);
  const std::string said = text ? text : "unknown error";
  return failed(HUNGARIAN_CUDA_DRIVER, what + ": " + said + " (error " + std::to_string(error) + ")");
}

// What was loaded in a context, once in a process.
struct Loaded {
  CUmodule module = nullptr;
  std::map<std::string, CUfunction> functions;
};

std::mutex lock;
std::map<CUcontext, Loaded> contexts;

// Makes a context current for a scope, unless it is.
class Current {
 public:
  Current(const Driver &driver, CUcontext context) : driver_(driver) {
    CUcontext now = nullptr;
    if (driver.cuCtxGetCurrent(&now) == 0 && now == context) return;
    pushed_ = driver.cuCtxPushCurrent(context) == 0;
  }
  ~Current() {
    CUcontext popped;
    if (pushed_) driver_.cuCtxPopCurrent(&popped);
  }

 private:
  const Driver &driver_;
  bool pushed_ = false;
};

// While a stream is captured, loading is forbidden to its thread, unless it says that it knows.
class Relaxed {
 public:
  explicit Relaxed(const Driver &driver) : driver_(driver) {
    driver_.cuThreadExchangeStreamCaptureMode(&mode_);
  }
  ~Relaxed() { driver_.cuThreadExchangeStreamCaptureMode(&mode_); }

 private:
  const Driver &driver_;
  int mode_ = CAPTURE_RELAXED;
};

// The context that an address on a device belongs to: the primary one of the device, as all
// frameworks have it. A thread need not have made it current.
int64_t context_of(const Driver &driver, const void *address, CUcontext &context) {
  int ordinal = 0;
  CUdevice device;
  CUresult e = driver.cuPointerGetAttribute(&ordinal, POINTER_DEVICE,
                                            reinterpret_cast<uint64_t>(address));
  if (e) return refused(driver, "the arrays do not lie in the memory of a CUDA device", e);
  e = driver.cuDeviceGet(&device, ordinal);
  if (!e) e = driver.cuDevicePrimaryCtxRetain(&context, device);
  return e ? refused(driver, "asking for the device's context", e) : 0;
}

// The kernel of a name in the current context, compiled when it is first wanted.
int64_t load(const Driver &driver, CUcontext context, const char *name, CUfunction &function) {
  const std::lock_guard<std::mutex> guard(lock);
  Loaded &loaded = contexts[context];
  CUfunction &known = loaded.functions[name];
  if (!known) {
    const Relaxed relaxed(driver);
    if (!loaded.module) {
      if (const CUresult e = driver.cuModuleLoadData(&loaded.module, hungarian_ptx)) {
        loaded.module = nullptr;
        int version = 0;
        driver.cuDriverGetVersion(&version);
        const std::string which = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
        return refused(driver, "the driver, of CUDA " + which + ", does not take the kernel", e);
      }
    }
    if (const CUresult e = driver.cuModuleGetFunction(&known, loaded.module, name)) {
      known = nullptr;
      return refused(driver, name, e);
    }
  }
  function = known;
  return 0;
}

// Launches a kernel in the context that an address on a device belongs to.
int64_t launch(const char *kernel, const void *address, unsigned blocks, unsigned threads, unsigned shared,
               void *problem, void *stream) {
  if (const int64_t error = hungarian_cuda_open()) return error;
  const Driver &driver = *find_driver(nullptr);
  CUcontext context = nullptr;
  CUfunction function = nullptr;
  if (const int64_t error = context_of(driver, address, context)) return error;
  const Current current(driver, context);
  if (const int64_t error = load(driver, context, kernel, function)) return error;
  void *parameters[] = {problem};
  const CUresult e = driver.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared,
                                           static_cast<CUstream>(stream), parameters, nullptr);
  return e ? refused(driver, "launching the kernel", e) : 0;
}

// Launches a pass over detections, of which one result is sure to have an entry.
template <class Passed>
int64_t pass(const Passed *given, const char *single, const char *wide, void *Passed::*result, void *stream) {
  const int64_t blocks = given ? blocks_of(*given) : -1;
  if (blocks < 0) return failed(HUNGARIAN_BAD_ARGUMENT, "an argument is out of range");
  if (blocks == 0) return 0;
  Passed p = *given;
  const char *kernel = p.dtype == HUNGARIAN_FLOAT64 ? wide : single;
  return launch(kernel, p.*result, unsigned(blocks), 32 * WARPS, 0, &p, stream);
}

}  // namespace
}  // namespace hungarian

using namespace hungarian;

extern "C" {

int64_t hungarian_cuda_open(void) {
  const char *why;
  return find_driver(&why) ? 0 : failed(HUNGARIAN_CUDA_DRIVER, why);
}

int64_t hungarian_cuda_devices(void) {
  const Driver *driver = find_driver(nullptr);
  int count = 0;
  return driver && driver->cuDeviceGetCount(&count) == 0 ? count : 0;
}

int64_t hungarian_cuda_device(int64_t ordinal, char *name, int64_t length) {
  if (const int64_t error = hungarian_cuda_open()) return error;
  const Driver &driver = *find_driver(nullptr);
  CUdevice device;
  int major = 0, minor = 0;
  CUresult e = driver.cuDeviceGet(&device, int(ordinal));
  if (!e) e = driver.cuDeviceGetName(name, int(length), device);
  if (!e) e = driver.cuDeviceGetAttribute(&major, ATTRIBUTE_MAJOR, device);
  if (!e) e = driver.cuDeviceGetAttribute(&minor, ATTRIBUTE_MINOR, device);
  return e ? refused(driver, "asking for a device", e) : 10 * major + minor;
}

int64_t hungarian_cuda_workspace(const hungarian_cuda_batch *problems) {
  if (!problems || !sound(*problems)) {
    return failed(HUNGARIAN_BAD_ARGUMENT, "an argument is out of range");
  }
  return problems->batch * plan(*problems).workspace;
}

int64_t hungarian_cuda_solve(const hungarian_cuda_batch *problems, void *stream) {
  if (!problems || !sound(*problems)) {
    return failed(HUNGARIAN_BAD_ARGUMENT, "an argument is out of range");
  }
  hungarian_cuda_batch p = *problems;
  if (p.batch == 0) return 0;
  const Plan chosen = plan(p);
  // Of all arrays the status is sure to have an entry.
  return launch(chosen.kernel, p.status, unsigned(p.batch), chosen.threads, chosen.shared, &p, stream);
}

int64_t hungarian_cuda_matching_cost(const hungarian_matching_costs *costs, void *stream) {
  return pass(costs, "hungarian_costs_f32", "hungarian_costs_f64", &hungarian_matching_costs::max_logit, stream);
}

int64_t hungarian_cuda_class_loss(const hungarian_class_losses *losses, void *stream) {
  return pass(losses, "hungarian_classes_f32", "hungarian_classes_f64", &hungarian_class_losses::value, stream);
}

int64_t hungarian_cuda_box_loss(const hungarian_box_losses *losses, void *stream) {
  return pass(losses, "hungarian_boxes_f32", "hungarian_boxes_f64", &hungarian_box_losses::distance, stream);
}

const char *hungarian_cuda_message(void) { return message.c_str(); }

int64_t hungarian_cuda_abi(void) { return HUNGARIAN_CUDA_ABI; }

}  // extern "C"
