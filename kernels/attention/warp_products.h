// The two matrix products of a warp's rows: S = Q K^T and O += P V, by mma.m16n8k16 on padded rows
// of shared memory. T is the 16-bit type of q, k and v. A fragment of k or v serves all row tiles.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "tile/mma.h"

namespace quire::kernels {

// Accumulators of one warp: [row tile][8 columns][fragment].
template <AttentionConfig c>
using ScoreTile = float[c.row_tiles][sm80_layout(c).slice_kv / 8][4];
template <AttentionConfig c>
using OutTile = float[c.row_tiles][c.head_dim_vo / 8][4];

// score = q k^T: q points to the warp's first row, k to the first token of its slice.
template <AttentionConfig c, class T>
inline void multiply_qk(ScoreTile<c>& score, const u16* q, const u16* k) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  constexpr int kTiles = kLayout.slice_kv / 8;
  const int lane = tile::lane_index();
  q += (lane % 16) * kLayout.qk_row + lane / 16 * 8;
  k += (lane / 16 * 8 + lane % 8) * kLayout.qk_row + lane / 8 % 2 * 8;
#pragma unroll
  for (int m = 0; m < c.row_tiles; ++m) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) score[m][i][j] = 0.f;
    }
  }
#pragma unroll
  for (int d = 0; d < c.head_dim_qk; d += 16) {
    u32 a[c.row_tiles][4];
#pragma unroll
    for (int m = 0; m < c.row_tiles; ++m) {
      tile::ldmatrix_x4(a[m], q + m * 16 * kLayout.qk_row + d);
    }
#pragma unroll
    for (int i = 0; i < kTiles; i += 2) {
      u32 b[4];
      tile::ldmatrix_x4(b, k + i * 8 * kLayout.qk_row + d);
#pragma unroll
      for (int m = 0; m < c.row_tiles; ++m) {
        tile::mma_m16n8k16<T>(score[m][i], a[m], b[0], b[1]);
        tile::mma_m16n8k16<T>(score[m][i + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// out += probability v: v points to the first token of the slice.
template <AttentionConfig c, class T>
inline void multiply_pv(OutTile<c>& out, const ScoreTile<c>& probability, const u16* v) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  const int lane = tile::lane_index();
  v += (lane % 16) * kLayout.vo_row + lane / 16 * 8;
#pragma unroll
  for (int i = 0; i < kLayout.slice_kv / 8; i += 2) {
    u32 a[c.row_tiles][4];
#pragma unroll
    for (int m = 0; m < c.row_tiles; ++m) {
      const auto& p = probability[m];
      a[m][0] = tile::pack2<T>(p[i][0], p[i][1]);
      a[m][1] = tile::pack2<T>(p[i][2], p[i][3]);
      a[m][2] = tile::pack2<T>(p[i + 1][0], p[i + 1][1]);
      a[m][3] = tile::pack2<T>(p[i + 1][2], p[i + 1][3]);
    }
#pragma unroll
    for (int n = 0; n < c.head_dim_vo / 8; n += 2) {
      u32 b[4];
      tile::ldmatrix_x4_trans(b, v + i * 8 * kLayout.vo_row + n * 8);
#pragma unroll
      for (int m = 0; m < c.row_tiles; ++m) {
        tile::mma_m16n8k16<T>(out[m][n], a[m], b[0], b[1]);
        tile::mma_m16n8k16<T>(out[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

}  // namespace quire::kernels
