// What the normalisations share between host and device.
#pragma once

#include "quantize/scale_types.h"

namespace quire::kernels {

enum class NormKind : u8 { rms, layer };

constexpr const char* literal(NormKind k) {
  return k == NormKind::rms ? "NormKind::rms" : "NormKind::layer";
}

struct NormConfig {
  NormKind kind = NormKind::rms;
  DType dtype = DType::bf16;         // of input and residual
  DType weight_dtype = DType::bf16;  // of weight and bias
  DType out_dtype = DType::bf16;     // dtype, or fp8
  Scaling scaling = Scaling::none;   // computed: a scale a row
  bool fused_add = false;            // add input to residual first, and normalise the residual
  i32 vec_elems = 1;                 // elements an access; divides hidden and every stride
  i32 threads = 128;                 // a block; a multiple of threads_per_row
  i32 threads_per_row = 32;          // power of two; a row of several warps has the block alone
  i32 vecs_per_thread = 0;           // accesses of a row kept in registers; 0: rows are read again

  bool operator==(const NormConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const NormConfig& c, Visitor&& visit) {
  visit("kind", c.kind);
  visit("dtype", c.dtype);
  visit("weight_dtype", c.weight_dtype);
  visit("out_dtype", c.out_dtype);
  visit("scaling", c.scaling);
  visit("fused_add", c.fused_add);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
  visit("threads_per_row", c.threads_per_row);
  visit("vecs_per_thread", c.vecs_per_thread);
}

// Row r is (token r / heads, head r % heads). Strides in elements.
struct NormParams {
  const void* input;         // [tokens, heads, hidden]
  void* residual;            // [tokens, heads, hidden], read and written; null without fused_add
  const void* weight;        // [hidden]
  const void* bias;          // [hidden] of layer norm
  void* out;                 // [tokens, heads, hidden]; may be input
  const float* given_scale;  // [1], or null: scale_value
  float* computed_scales;    // [tokens, heads], contiguous
  i64 input_token_stride, input_head_stride;
  i64 residual_token_stride, residual_head_stride;
  i64 out_token_stride, out_head_stride;
  i32 rows;  // tokens * heads
  i32 heads;
  i32 hidden;
  float eps;
  float weight_bias;  // added to weight
  float scale_value;
  bool power_of_two;  // of computed scales
};

}  // namespace quire::kernels
