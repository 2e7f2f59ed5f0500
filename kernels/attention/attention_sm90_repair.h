// S of a tile once more, by one warp alone of attention_sm90: its accumulators have become terms of
// the softmax that are out of range.
#pragma once

#include "attention/attention_sm90_layout.h"
#include "tile/mma.h"
#include "tile/thread.h"

namespace quire::kernels {

// The address in a swizzled panel of chunk `chunk` of a row.
__forceinline__ const u8* chunk_address(const u8* panel, int row, int chunk) {
  return panel + row * 128 + (chunk ^ row % 8) * 16;
}

// s = Q K^T for 16 rows of q from first_row on, in the layout that wgmma leaves behind. q, k: the
// panels of their stages, elements of 16 bits.
template <AttentionConfig c>
__forceinline__ void multiply_again(float (&s)[c.tile_kv / 2], const u8* q, const u8* k,
                                    int first_row) {
  using T = tile::storage_t<c.q_dtype>;
#pragma unroll
  for (int i = 0; i < c.tile_kv / 2; ++i) s[i] = 0.f;
  const int lane = tile::lane_index();
  const int q_row = first_row + lane % 16, k_row = lane / 16 * 8 + lane % 8;
#pragma unroll 1
  for (int step = 0; step < c.head_dim_qk / 16; ++step) {
    u32 a[4], b[4];
    const u8* q_panel = q + step / 4 * (c.tile_q * 128);
    tile::ldmatrix_x4(a, chunk_address(q_panel, q_row, step % 4 * 2 + lane / 16));
    const u8* k_panel = k + step / 4 * (c.tile_kv * 128);
    const u8* keys = chunk_address(k_panel, k_row, step % 4 * 2 + lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < c.tile_kv / 16; ++i) {
      tile::ldmatrix_x4(b, keys + i * (16 * 128));
      float(&low)[4] = reinterpret_cast<float(&)[4]>(s[8 * i]);
      float(&high)[4] = reinterpret_cast<float(&)[4]>(s[8 * i + 4]);
      tile::mma_m16n8k16<T>(low, a, b[0], b[1]);
      tile::mma_m16n8k16<T>(high, a, b[2], b[3]);
    }
  }
}

}  // namespace quire::kernels
