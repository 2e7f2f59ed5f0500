// What the gated activations share between host and device.
#pragma once

#include "quantize/scale_types.h"

namespace quire::kernels {

enum class Activation : u8 { silu, gelu, gelu_tanh };

constexpr const char* literal(Activation a) {
  switch (a) {
    case Activation::silu:
      return "Activation::silu";
    case Activation::gelu:
      return "Activation::gelu";
    case Activation::gelu_tanh:
      return "Activation::gelu_tanh";
  }
  return "";
}

struct ActivationConfig {
  Activation activation = Activation::silu;
  DType dtype = DType::bf16;
  DType out_dtype = DType::bf16;    // dtype, or fp8
  Scaling scaling = Scaling::none;  // computed: a scale a group of kScaleGroup elements
  i32 vec_elems = 1;                // elements an access; divides hidden and every stride
  i32 threads = 128;                // a block

  bool operator==(const ActivationConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const ActivationConfig& c, Visitor&& visit) {
  visit("activation", c.activation);
  visit("dtype", c.dtype);
  visit("out_dtype", c.out_dtype);
  visit("scaling", c.scaling);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

constexpr i32 kMaxLeadingDims = 7;
constexpr i32 kScaleGroup = 128;  // neighbouring elements of a row

// Leading dimensions that lie evenly in all tensors are merged by the host, so that there is
// mostly one. Strides in elements.
struct ActivationParams {
  const void* input;         // [leading …, 2 * hidden]
  void* out;                 // [leading …, hidden]
  const float* given_scale;  // [1], or null: scale_value
  float* computed_scales;    // [leading …, hidden / kScaleGroup]
  i64 input_strides[kMaxLeadingDims];
  i64 out_strides[kMaxLeadingDims];
  i64 scale_strides[kMaxLeadingDims];
  i64 scale_group_stride;
  i32 leading_shape[kMaxLeadingDims];
  i32 num_leading_dims;
  i32 rows;  // product of leading_shape
  i32 hidden;
  i32 parts;  // blocks a row, set by the CUDA backend
  float scale_value;
  bool power_of_two;  // of computed scales
};

// Where a row begins, in elements.
struct ActivationRow {
  i64 input, out, scale;
};

constexpr ActivationRow find_row(const ActivationParams& p, i32 row) {
  ActivationRow at{0, 0, 0};
  for (int d = p.num_leading_dims - 1; d > 0; --d) {
    const i32 rest = row / p.leading_shape[d], index = row - rest * p.leading_shape[d];
    at.input += index * p.input_strides[d];
    at.out += index * p.out_strides[d];
    at.scale += index * p.scale_strides[d];
    row = rest;
  }
  at.input += row * p.input_strides[0];
  at.out += row * p.out_strides[0];
  at.scale += row * p.scale_strides[0];
  return at;
}

}  // namespace quire::kernels
