// What the operators that merge attention states share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

struct MergeStatesConfig {
  DType dtype = DType::bf16;         // of state 0
  DType others_dtype = DType::bf16;  // of the other states
  DType out_dtype = DType::bf16;
  i32 vec_elems = 1;  // elements an access; divides head_dim and every stride of v and out
  i32 threads = 128;  // a block; a warp merges one row

  bool operator==(const MergeStatesConfig&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const MergeStatesConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("others_dtype", c.others_dtype);
  visit("out_dtype", c.out_dtype);
  visit("vec_elems", c.vec_elems);
  visit("threads", c.threads);
}

// Row r is (entry r / heads, head r % heads). State 0 of a row is in v0 and s0, state i + 1 in
// vs[i] and ss[i]. Strides in elements; the heads of s0, ss and s_out are contiguous.
struct MergeStatesParams {
  const void* v0;   // [entries, heads, head_dim]
  const float* s0;  // [entries, heads]
  const void* vs;   // [entries, num_states - 1, heads, head_dim]
  const float* ss;  // [entries, num_states - 1, heads]
  void* v_out;      // [entries, heads, head_dim]; may be v0, or vs with two states
  float* s_out;     // [entries, heads]; may be s0, or ss with two states
  const u8* mask;   // [entries]: rows with 0 are left alone; null: none are
  i64 v0_entry_stride, v0_head_stride;
  i64 vs_entry_stride, vs_state_stride, vs_head_stride;
  i64 out_entry_stride, out_head_stride;
  i64 s0_entry_stride;
  i64 ss_entry_stride, ss_state_stride;
  i64 rows;  // entries * heads
  i32 heads;
  i32 head_dim;
  i32 num_states;  // 0: every row becomes (0, -inf)
  i32 base_e;      // 1: s is to base e, 0: base 2
};

}  // namespace quire::kernels
