// What the launcher needs of the CUDA driver, which is looked for when it is first wanted: neither
// CUDA's headers nor its runtime take part, so the library loads where there is no GPU.
#ifndef HUNGARIAN_CUDA_DRIVER_H
#define HUNGARIAN_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

namespace hungarian {

using CUresult = int;  // 0 is success
using CUdevice = int;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;

// Numbers of the driver's interface, from cuda.h.
constexpr int ATTRIBUTE_MAJOR = 75, ATTRIBUTE_MINOR = 76;  // of a device: compute capability
constexpr int POINTER_DEVICE = 9;                          // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
constexpr int CAPTURE_RELAXED = 2;

// Functions of libcuda, by the names of their symbols there.
struct Driver {
  CUresult (*cuInit)(unsigned flags);
  CUresult (*cuDriverGetVersion)(int *version);
  CUresult (*cuGetErrorString)(CUresult error, const char **text);
  CUresult (*cuDeviceGetCount)(int *count);
  CUresult (*cuDeviceGet)(CUdevice *device, int ordinal);
  CUresult (*cuDeviceGetName)(char *name, int length, CUdevice device);
  CUresult (*cuDeviceGetAttribute)(int *value, int attribute, CUdevice device);
  CUresult (*cuPointerGetAttribute)(void *value, int attribute, uint64_t pointer);
  CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device);
  CUresult (*cuCtxGetCurrent)(CUcontext *context);
  CUresult (*cuCtxPushCurrent)(CUcontext context);
  CUresult (*cuCtxPopCurrent)(CUcontext *context);
  CUresult (*cuThreadExchangeStreamCaptureMode)(int *mode);
  CUresult (*cuModuleLoadData)(CUmodule *module, const void *image);
  CUresult (*cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name);
  CUresult (*cuLaunchKernel)(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                             unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                             CUstream stream, void **parameters, void **extra);
};

// The driver, or NULL; `why` then says what was tried.
const Driver *find_driver(const char **why);

}  // namespace hungarian

#endif
