// What the gated activations share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct SiluAndMulConfig {
  DType dtype = DType::bf16;
  i32 vec_elems = 1;  // elements an access; divides hidden and every stride
  i32 threads = 128;  // a block

  bool operator==(const SiluAndMulConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const SiluAndMulConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

constexpr i32 kMaxLeadingDims = 7;

// Leading dimensions that lie evenly in both tensors are merged by the host, so that there is
// mostly one. Strides in elements.
struct SiluAndMulParams {
  const void* input;  // [leading …, 2 * hidden]
  void* out;          // [leading …, hidden]
  i64 input_strides[kMaxLeadingDims];
  i64 out_strides[kMaxLeadingDims];
  i32 leading_shape[kMaxLeadingDims];
  i32 num_leading_dims;
  i32 rows;  // product of leading_shape
  i32 hidden;
};

}  // namespace quire::kernels
