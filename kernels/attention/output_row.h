// The last step of a row: sink, scale of v, base of lse, rounding. Shared by attention and its
// merge.
#pragma once

#include "attention/attention_types.h"
#include "attention/online_softmax.h"
#include "attention/scales.h"
#include "tile/vec.h"

namespace quire::kernels {

// o: some columns of the row's output before `o_scale`; lse in base 2, without the sink.
template <AttentionConfig c, int num_cols>
inline void write_output_row(const AttentionParams& p, i64 token, i64 head, int col,
                             const float (&o)[num_cols], float lse, float o_scale) {
  using T = tile::storage_t<c.o_dtype>;
  if (c.softmax && p.sinks) {
    const SinkedState state = add_sink(lse, p.sinks[head]);
    lse = state.lse;
    o_scale *= state.o_scale;
  }
  o_scale *= value_scale<c>(p, static_cast<int>(has_head_scales(c) ? head / p.group_size : 0));
  T* dst = static_cast<T*>(p.out) + token * p.out_token_stride + head * p.out_head_stride + col;
  float scaled[num_cols];
#pragma unroll
  for (int i = 0; i < num_cols; ++i) scaled[i] = o[i] * o_scale;
  if constexpr (c.aligned && sizeof(T) == 2) {
    tile::store<num_cols>(dst, scaled);
  } else {
#pragma unroll
    for (int i = 0; i < num_cols; ++i) dst[i] = tile::from_float<T>(scaled[i]);
  }
  if (c.softmax && col == 0 && p.lse) {
    p.lse[token * p.num_qo_heads + head] = p.lse_base_e ? lse * tile::kLn2 : lse;
  }
}

}  // namespace quire::kernels
