// What XLA passes to the handlers, on a CPU and on CUDA devices: buffers, as fields of a batch.
//
//   operands    cost [..., n, m], row_mask [..., n], col_mask [..., m], unmatched_cost [..., n]
//   results     col4row [..., n], row4col [..., m], cost [...], u [..., n], v [..., m], status [...]
//   attributes  maximize, nan: int64, as in hungarian_batch
//
// An operand without elements is absent. No flag is needed: where such an operand is given and
// really has no elements, there is no row or no column for it to speak of. It also survives
// `vmap`, which may put batch dimensions in front of everything.
#ifndef HUNGARIAN_JAX_BATCH_H
#define HUNGARIAN_JAX_BATCH_H

#include <cstdint>
#include <string>
#include <utility>

#include "hungarian.h"
#include "xla/ffi/api/ffi.h"

namespace hungarian {

namespace ffi = xla::ffi;

template <typename Buffer>
int64_t size(const Buffer &buffer) {
  return static_cast<int64_t>(buffer.element_count());
}

inline ffi::Error wrong(const char *what) {
  return ffi::Error::InvalidArgument(std::string("hungarian_core: ") + what);
}

// Fills a hungarian_batch or a hungarian_cuda_batch, which have these fields in common.
template <class Batch>
ffi::Error fill(Batch &problems, ffi::AnyBuffer cost, ffi::Buffer<ffi::PRED> row_mask,
                ffi::Buffer<ffi::PRED> col_mask, ffi::AnyBuffer unmatched_cost, int64_t maximize,
                int64_t nan, ffi::Result<ffi::AnyBuffer> col4row,
                ffi::Result<ffi::AnyBuffer> row4col, ffi::Result<ffi::AnyBuffer> total,
                ffi::Result<ffi::AnyBuffer> u, ffi::Result<ffi::AnyBuffer> v,
                ffi::ResultBuffer<ffi::U8> status) {
  const auto shape = cost.dimensions();
  const auto dtype = cost.element_type();
  const auto index = col4row->element_type();
  if (shape.size() < 2) return wrong("cost needs two dimensions or more");
  if (dtype != ffi::F32 && dtype != ffi::F64) return wrong("cost is neither float32 nor float64");
  if (index != ffi::S32 && index != ffi::S64) return wrong("col4row is neither int32 nor int64");
  if (row4col->element_type() != index) return wrong("row4col has another dtype than col4row");
  if (unmatched_cost.element_type() != dtype || total->element_type() != dtype ||
      u->element_type() != dtype || v->element_type() != dtype) {
    return wrong("unmatched_cost, total, u or v has another dtype than cost");
  }

  const int64_t n = shape[shape.size() - 2], m = shape[shape.size() - 1];
  int64_t batch = 1;
  for (size_t axis = 0; axis + 2 < shape.size(); ++axis) batch *= shape[axis];
  const auto fits = [](int64_t found, int64_t count) { return found == 0 || found == count; };
  if (!fits(size(row_mask), batch * n) || !fits(size(col_mask), batch * m) ||
      !fits(size(unmatched_cost), batch * n)) {
    return wrong("row_mask, col_mask or unmatched_cost does not fit the shape of cost");
  }
  if (size(*col4row) != batch * n || size(*row4col) != batch * m || size(*total) != batch ||
      size(*u) != batch * n || size(*v) != batch * m || size(*status) != batch) {
    return wrong("a result does not fit the shape of cost");
  }

  problems.dtype = dtype == ffi::F32 ? HUNGARIAN_FLOAT32 : HUNGARIAN_FLOAT64;
  problems.batch = batch;
  problems.n = n;
  problems.m = m;
  problems.cost = cost.untyped_data();
  problems.cost_strides[0] = n * m;
  problems.cost_strides[1] = m;
  problems.cost_strides[2] = 1;
  if (size(row_mask) != 0) {
    problems.row_mask = static_cast<const uint8_t *>(row_mask.untyped_data());
  }
  if (size(col_mask) != 0) {
    problems.col_mask = static_cast<const uint8_t *>(col_mask.untyped_data());
  }
  if (size(unmatched_cost) != 0) {
    problems.unmatched_cost = unmatched_cost.untyped_data();
    problems.unmatched_cost_strides[0] = n;
    problems.unmatched_cost_strides[1] = 1;
  }
  problems.maximize = maximize;
  problems.nan = nan;
  problems.index_bits = index == ffi::S32 ? 32 : 64;
  problems.col4row = col4row->untyped_data();
  problems.row4col = row4col->untyped_data();
  problems.total = total->untyped_data();
  problems.u = u->untyped_data();
  problems.v = v->untyped_data();
  problems.status = status->typed_data();
  return ffi::Error::Success();
}

// Binds the operands, attributes and results that `fill` takes, to a handler that begins with what
// `binding` holds already.
template <class Binding>
auto bind_batch(Binding binding) {
  return std::move(binding)
      .template Arg<ffi::AnyBuffer>()          // cost
      .template Arg<ffi::Buffer<ffi::PRED>>()  // row_mask
      .template Arg<ffi::Buffer<ffi::PRED>>()  // col_mask
      .template Arg<ffi::AnyBuffer>()          // unmatched_cost
      .template Attr<int64_t>("maximize")
      .template Attr<int64_t>("nan")
      .template Ret<ffi::AnyBuffer>()          // col4row
      .template Ret<ffi::AnyBuffer>()          // row4col
      .template Ret<ffi::AnyBuffer>()          // cost
      .template Ret<ffi::AnyBuffer>()          // u
      .template Ret<ffi::AnyBuffer>()          // v
      .template Ret<ffi::Buffer<ffi::U8>>();   // status
}

}  // namespace hungarian

#endif
