// The end of a work item: joins the states of the warps that shared the tokens, normalises, writes.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "attention/online_softmax.h"
#include "attention/output_row.h"
#include "attention/warp_products.h"
#include "attention/work_tile.h"
#include "tile/vec.h"

namespace quire::kernels {

// Normalised output and lse of one row, as seen by the thread that writes a part of it.
struct RowResult {
  float lse;      // base 2
  float o_scale;  // what the joined, unnormalised o is multiplied with
};

// Joins (max, sum) of a row over the warps of the tokens. part_scale[j] is the factor of
// part j's output. Without softmax the parts are added as they are, lse means nothing.
template <AttentionConfig c>
inline RowResult join_row(const float* row_max, const float* row_sum, int row, float to_base2,
                          float (&part_scale)[c.warps_kv]) {
  if constexpr (!c.softmax) {
#pragma unroll
    for (int j = 0; j < c.warps_kv; ++j) part_scale[j] = 1.f;
    return {0.f, 1.f};
  }
  float m = tile::kNegInf;
#pragma unroll
  for (int j = 0; j < c.warps_kv; ++j) m = tile::max_f32(m, row_max[j * c.tile_q + row]);
  const float offset = m == tile::kNegInf ? 0.f : m * to_base2;
  float sum = 0.f;
#pragma unroll
  for (int j = 0; j < c.warps_kv; ++j) {
    part_scale[j] =
        tile::exp2_approx(tile::fma_f32(row_max[j * c.tile_q + row], to_base2, -offset));
    sum += row_sum[j * c.tile_q + row] * part_scale[j];
  }
  if (sum == 0.f) return {tile::kNegInf, 0.f};
  return {offset + tile::log2_approx(sum), 1.f / sum};
}

// Writes eight normalised columns of a row of the tile, and its lse when `first`.
template <AttentionConfig c>
inline void write_row(const AttentionParams& p, const WorkTile& t, int row, int col, float (&o)[8],
                      RowResult result) {
  const bool first = col == 0;
  if (t.partial_row >= 0) {
    const i64 partial = static_cast<i64>(t.partial_row) + row;
    float* dst = p.partial_o + partial * c.head_dim_vo + col;
#pragma unroll
    for (int i = 0; i < 8; ++i) o[i] *= result.o_scale;
    float low[4] = {o[0], o[1], o[2], o[3]};
    float high[4] = {o[4], o[5], o[6], o[7]};
    tile::store<4>(dst, low);
    tile::store<4>(dst + 4, high);
    if (first) p.partial_lse[partial] = result.lse;
    return;
  }
  const int packed = t.q_begin + row;
  const i64 token = t.first_q_row + packed / p.group_size;
  const i64 head = t.kv_head * p.group_size + packed % p.group_size;
  write_output_row<c>(p, token, head, col, o, result.lse, result.o_scale);
}

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
    const RowResult result = join_row<c>(row_max, row_sum, row, to_base2, part_scale);
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
