// out[row, i] = silu(input[row, i]) * input[row, hidden + i].
//
// Grid:   x: any number of blocks, block b takes rows b, b + grid …; y: ceil(hidden / (threads *
// vec)) Block:  c.threads, one access of vec_elems a thread and row Smem:   none Output: out Needs:
// any GPU
#pragma once

#include "activation/activation_types.h"
#include "tile/vec.h"

namespace quire::kernels {

inline float silu(float x) { return x / (1.f + tile::exp_f32(-x)); }

template <SiluAndMulConfig c>
void silu_and_mul(const SiluAndMulParams& p) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kVec = c.vec_elems;
  const i64 column =
      (static_cast<i64>(tile::block_index_y()) * c.threads + tile::thread_index()) * kVec;
  if (column >= p.hidden) return;
  for (i64 row = tile::block_index(); row < p.rows; row += tile::num_blocks()) {
    i64 input_offset = column, out_offset = column;
    i32 rest = static_cast<i32>(row);
    for (int d = p.num_leading_dims - 1; d > 0; --d) {
      const i32 index = rest % p.leading_shape[d];
      rest /= p.leading_shape[d];
      input_offset += index * p.input_strides[d];
      out_offset += index * p.out_strides[d];
    }
    const T* input = static_cast<const T*>(p.input) + input_offset + rest * p.input_strides[0];
    float gate[kVec], up[kVec];
    tile::load<kVec>(gate, input);
    tile::load<kVec>(up, input + p.hidden);
#pragma unroll
    for (int j = 0; j < kVec; ++j) gate[j] = silu(gate[j]) * up[j];
    tile::store<kVec>(static_cast<T*>(p.out) + out_offset + rest * p.out_strides[0], gate);
  }
}

}  // namespace quire::kernels
