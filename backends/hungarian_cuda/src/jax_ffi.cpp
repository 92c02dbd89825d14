// XLA's door to the solver on CUDA devices: a node of a program that launches on the program's
// stream, and may be one of a command buffer. Built where jaxlib's headers are found.
//
// One more result than on a CPU: working memory, [..., bytes of one problem].
#include "hungarian_cuda.h"
#include "jax_batch.h"

namespace hungarian {
namespace {

constexpr auto launch = [](void *stream, auto workspace, auto... buffers) {
  hungarian_cuda_batch problems = {};
  problems.abi = HUNGARIAN_CUDA_ABI;
  const ffi::Error error = fill(problems, buffers...);
  if (error.failure()) return error;
  problems.workspace = workspace->untyped_data();
  if (size(*workspace) < hungarian_cuda_workspace(&problems)) return wrong("workspace is too small");
  if (hungarian_cuda_solve(&problems, stream) == 0) return ffi::Error::Success();
  return ffi::Error::Internal(hungarian_cuda_message());
};

}  // namespace
}  // namespace hungarian

extern "C" HUNGARIAN_API XLA_FFI_Error *HungarianCudaJax(XLA_FFI_CallFrame *);

XLA_FFI_DEFINE_HANDLER_SYMBOL(HungarianCudaJax, hungarian::launch,
                              hungarian::bind_batch(xla::ffi::Ffi::Bind()
                                                        .Ctx<xla::ffi::PlatformStream<void *>>()
                                                        .Ret<xla::ffi::Buffer<xla::ffi::U8>>()),
                              {xla::ffi::Traits::kCmdBufferCompatible});
