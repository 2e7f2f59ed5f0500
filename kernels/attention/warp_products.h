// The two matrix products of a warp's 16 rows: S = Q K^T and O += P V, by mma.m16n8k16 on padded
// rows of shared memory. T is the 16-bit type of q, k and v.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "tile/mma.h"

namespace quire::kernels {

// score [16, slice]: q points to the warp's first row, k to the first token of its slice.
template <AttentionConfig c, class T>
inline void multiply_qk(float (&score)[sm80_layout(c).slice_kv / 8][4], const u16* q,
                        const u16* k) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  constexpr int kTiles = kLayout.slice_kv / 8;
  const int lane = tile::lane_index();
  q += (lane % 16) * kLayout.qk_row + lane / 16 * 8;
  k += (lane / 16 * 8 + lane % 8) * kLayout.qk_row + lane / 8 % 2 * 8;
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) score[i][j] = 0.f;
  }
#pragma unroll
  for (int d = 0; d < c.head_dim_qk; d += 16) {
    u32 a[4];
    tile::ldmatrix_x4(a, q + d);
#pragma unroll
    for (int i = 0; i < kTiles; i += 2) {
      u32 b[4];
      tile::ldmatrix_x4(b, k + i * 8 * kLayout.qk_row + d);
      tile::mma_m16n8k16<T>(score[i], a, b[0], b[1]);
      tile::mma_m16n8k16<T>(score[i + 1], a, b[2], b[3]);
    }
  }
}

// out [16, head_dim_vo] += probability [16, slice] * v: v points to the first token of the slice.
template <AttentionConfig c, class T>
inline void multiply_pv(float (&out)[c.head_dim_vo / 8][4],
                        const float (&probability)[sm80_layout(c).slice_kv / 8][4], const u16* v) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  const int lane = tile::lane_index();
  v += (lane % 16) * kLayout.vo_row + lane / 16 * 8;
#pragma unroll
  for (int i = 0; i < kLayout.slice_kv / 8; i += 2) {
    const u32 a[4] = {tile::pack2<T>(probability[i][0], probability[i][1]),
                      tile::pack2<T>(probability[i][2], probability[i][3]),
                      tile::pack2<T>(probability[i + 1][0], probability[i + 1][1]),
                      tile::pack2<T>(probability[i + 1][2], probability[i + 1][3])};
#pragma unroll
    for (int n = 0; n < c.head_dim_vo / 8; n += 2) {
      u32 b[4];
      tile::ldmatrix_x4_trans(b, v + i * 8 * kLayout.vo_row + n * 8);
      tile::mma_m16n8k16<T>(out[n], a, b[0], b[1]);
      tile::mma_m16n8k16<T>(out[n + 1], a, b[2], b[3]);
    }
  }
}

}  // namespace quire::kernels
