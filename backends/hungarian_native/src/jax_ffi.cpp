// XLA's door to the solver: with it `jax.jit` and `jax.vmap` run the kernel on a CPU without a
// Python callback. Built where the header-only API that comes with jaxlib is found.
#include "hungarian.h"
#include "jax_batch.h"

namespace hungarian {
namespace {

constexpr auto solve = [](int64_t threads, auto... buffers) {
  hungarian_batch problems = {};
  problems.abi = HUNGARIAN_ABI;
  problems.threads = threads;
  const ffi::Error error = fill(problems, buffers...);
  if (error.failure()) return error;
  // A sample that is not solved is no error here: nothing can raise inside `jit`; see `status`.
  const int64_t unsolved = hungarian_solve(&problems);
  if (unsolved == HUNGARIAN_INTERRUPTED) {
    return ffi::Error(ffi::ErrorCode::kCancelled, hungarian_message(unsolved));
  }
  if (unsolved == HUNGARIAN_OUT_OF_MEMORY) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, hungarian_message(unsolved));
  }
  return unsolved < 0 ? wrong(hungarian_message(unsolved)) : ffi::Error::Success();
};

}  // namespace
}  // namespace hungarian

extern "C" HUNGARIAN_API XLA_FFI_Error *HungarianJax(XLA_FFI_CallFrame *);

// The jaxlib of the headers: an older XLA refuses the handler, and fails to start with it.
extern "C" HUNGARIAN_API const char *hungarian_jaxlib() { return HUNGARIAN_JAXLIB; }

XLA_FFI_DEFINE_HANDLER_SYMBOL(HungarianJax, hungarian::solve,
                              hungarian::bind_batch(xla::ffi::Ffi::Bind().Attr<int64_t>("threads")));
