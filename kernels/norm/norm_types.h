// What the root-mean-square norms share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct RmsNormConfig {
  DType dtype = DType::bf16;
  bool fused_add = false;    // add input to residual first, and normalise the residual
  i32 vec_elems = 1;         // elements an access; divides hidden and every stride
  i32 threads = 128;         // a block; a multiple of threads_per_row
  i32 threads_per_row = 32;  // power of two
  i32 vecs_per_thread = 0;   // accesses of a row kept in registers; 0: the row is read twice

  bool operator==(const RmsNormConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const RmsNormConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("fused_add", c.fused_add);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("threads_per_row", c.threads_per_row);
  visit("vecs_per_thread", c.vecs_per_thread);
}

// Row r is (token r / heads, head r % heads). Strides in elements.
struct RmsNormParams {
  const void* input;   // [tokens, heads, hidden]
  void* residual;      // [tokens, heads, hidden], read and written; null without fused_add
  const void* weight;  // [hidden]
  void* out;           // [tokens, heads, hidden]; may be input
  i64 input_token_stride, input_head_stride;
  i64 residual_token_stride, residual_head_stride;
  i64 out_token_stride, out_head_stride;
  i32 rows;  // tokens * heads
  i32 heads;
  i32 hidden;
  float eps;
};

}  // namespace quire::kernels
