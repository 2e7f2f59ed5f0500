// What rotary position embedding shares between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

constexpr i32 kMaxRotaryDim = 512;

struct RopeConfig {
  DType dtype = DType::bf16;
  DType pos_dtype = DType::i32;  // i32 or i64
  bool interleave = false;       // pairs (2i, 2i + 1), else (i, i + rotary_dim / 2)
  i32 vec_elems = 1;  // elements an access; divides rotary_dim / 2, head_dim and every stride
  i32 threads = 128;  // a block

  bool operator==(const RopeConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const RopeConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("pos_dtype", c.pos_dtype);
  visit("interleave", c.interleave);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

// One of q and k. Strides in elements.
struct RopeSide {
  const void* in;  // [nnz, num_heads, head_dim]
  void* out;       // [nnz, num_heads, head_dim]; may be in
  i64 in_token_stride, in_head_stride;
  i64 out_token_stride, out_head_stride;
  i32 num_heads;
};

struct RopeParams {
  RopeSide q, k;
  const void* pos_ids;  // [nnz], of pos_dtype
  i64 pos_ids_stride;   // elements
  i32 nnz, head_dim, rotary_dim;
  // Radians a position, of pair i. Computed in double and rounded, so that every backend turns by
  // the same angles: f32(position) * inv_freq[i], rounded to f32, as models were trained.
  float inv_freq[kMaxRotaryDim / 2];
};

}  // namespace quire::kernels
