// The end of a work item: joins the states of the warps that shared the tokens, normalises, writes.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "attention/online_softmax.h"
#include "attention/row_result.h"
#include "attention/warp_products.h"

namespace quire::kernels {

// Accumulators and row states of this thread to shared memory.
template <AttentionConfig c>
inline void stage_tile(u8* smem, const OutTile<c>& out,
                       const OnlineSoftmax (&softmax)[c.row_tiles]) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  const int lane = tile::lane_index();
  const int part = tile::warp_index() % c.warps_kv;
  const int warp_row = tile::warp_index() / c.warps_kv * 16 * c.row_tiles;
  auto* row_max = reinterpret_cast<float*>(smem + kLayout.row_max) + part * c.tile_q;
  auto* row_sum = reinterpret_cast<float*>(smem + kLayout.row_sum) + part * c.tile_q;
  auto* stage = reinterpret_cast<float*>(smem + kLayout.out) + part * c.tile_q * kLayout.out_row;
#pragma unroll
  for (int m = 0; m < c.row_tiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row + 16 * m + lane / 4 + 8 * half;
      if (lane % 4 == 0) {
        row_max[row] = softmax[m].row_max[half];
        row_sum[row] = softmax[m].row_sum[half];
      }
      float* dst = stage + row * kLayout.out_row + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < c.head_dim_vo / 8; ++n) {
        const float pair[2] = {out[m][n][2 * half], out[m][n][2 * half + 1]};
        tile::store<2>(dst + 8 * n, pair);
      }
    }
  }
}

template <AttentionConfig c>
inline void write_tile(const AttentionParams& p, const WorkTile& t, u8* smem, const OutTile<c>& out,
                       const OnlineSoftmax (&softmax)[c.row_tiles], float to_base2) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  const auto* stage = reinterpret_cast<const float*>(smem + kLayout.out);
  const auto* row_max = reinterpret_cast<const float*>(smem + kLayout.row_max);
  const auto* row_sum = reinterpret_cast<const float*>(smem + kLayout.row_sum);
  stage_tile<c>(smem, out, softmax);
  tile::sync_block();
  constexpr int kChunks = c.head_dim_vo / 8;
  for (int i = tile::thread_index(); i < t.num_rows * kChunks; i += kLayout.threads) {
    const int row = i / kChunks;
    const int col = i % kChunks * 8;
    float part_scale[c.warps_kv];
    const RowResult result =
        join_row<c.softmax>(row_max + row, row_sum + row, c.tile_q, to_base2, part_scale);
    float o[8] = {};
#pragma unroll
    for (int j = 0; j < c.warps_kv; ++j) {
      const float* src = stage + (j * c.tile_q + row) * kLayout.out_row + col;
      float low[4], high[4];
      tile::load<4>(low, src);
      tile::load<4>(high, src + 4);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        o[x] += low[x] * part_scale[j];
        o[x + 4] += high[x] * part_scale[j];
      }
    }
    write_row<c>(p, t, row, col, o, result);
  }
  tile::sync_block();  // the next item writes k, v and the row table
}

}  // namespace quire::kernels
