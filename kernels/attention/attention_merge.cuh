// Joins the partial results of split KV (Dao et al. 2023, "Flash-Decoding").
//
// Grid:   any number by ceil(tile_rows / 4).
// Block:  4 warps; warp w of block (i, j) joins row 4 j + w of items i, i + grid, …
// Smem:   none.
// Output: out and lse of every row of every item; 0 and -inf where an item has no parts, NaN where
//         it has -1. Without softmax: the sum of the parts.
// Needs:  partial results of a kernel before it on the same stream.
#pragma once

#include "attention/output_row.h"

namespace quire::kernels {

constexpr int kMergeThreads = 128;

// lse of a row over its parts, base 2. Every lane gets it.
inline float joined_lse(const float* partial_lse, int num_rows, int num_parts) {
  float m = tile::kNegInf;
  for (int s = tile::lane_index(); s < num_parts; s += 32) {
    m = tile::max_f32(m, partial_lse[static_cast<i64>(s) * num_rows]);
  }
  m = tile::warp::max<32>(m);
  if (m == tile::kNegInf) return m;
  float sum = 0.f;
  for (int s = tile::lane_index(); s < num_parts; s += 32) {
    sum += tile::exp2_approx(partial_lse[static_cast<i64>(s) * num_rows] - m);
  }
  return m + tile::log2_approx(tile::warp::sum<32>(sum));
}

template <AttentionConfig c>
inline void merge_item(const AttentionParams& p, const MergeItem item) {
  if (static_cast<u32>(item.request) >= static_cast<u32>(p.batch_size) ||
      static_cast<u32>(item.kv_head) >= static_cast<u32>(p.num_kv_heads) || item.q_begin < 0 ||
      item.num_parts < -1 || item.partial_row < 0 || item.num_rows < 0 ||
      item.partial_row + static_cast<i64>(item.num_parts) * item.num_rows > p.num_partial_rows) {
    return;
  }
  const int row = tile::block_index_y() * (kMergeThreads / 32) + tile::warp_index();
  if (row >= item.num_rows) return;
  const i64 packed = static_cast<i64>(item.q_begin) + row;
  const i64 token = p.qo_indptr[item.request] + packed / p.group_size;
  if (token < 0 || token >= p.total_q) return;
  const i64 head = item.kv_head * p.group_size + packed % p.group_size;
  const i64 first = static_cast<i64>(item.partial_row) + row;
  float lse = item.num_parts < 0 ? tile::kNan : 0.f;
  if (c.softmax && item.num_parts >= 0) {
    lse = joined_lse(p.partial_lse + first, item.num_rows, item.num_parts);
  }
  for (int col = 8 * tile::lane_index(); col < c.head_dim_vo; col += 8 * 32) {
    float o[8] = {};
    if (item.num_parts < 0) {
#pragma unroll
      for (int x = 0; x < 8; ++x) o[x] = lse;
    }
    for (int s = 0; lse > tile::kNegInf && s < item.num_parts; ++s) {
      const i64 part = first + static_cast<i64>(s) * item.num_rows;
      float weight = 1.f;
      if constexpr (c.softmax) weight = tile::exp2_approx(p.partial_lse[part] - lse);
      if (weight == 0.f) continue;  // an empty part
      float low[4], high[4];
      tile::load<4>(low, p.partial_o + part * c.head_dim_vo + col);
      tile::load<4>(high, p.partial_o + part * c.head_dim_vo + col + 4);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        o[x] += weight * low[x];
        o[x + 4] += weight * high[x];
      }
    }
    write_output_row<c>(p, token, head, col, o, lse, 1.f);
  }
}

template <AttentionConfig c>
inline void attention_merge(const AttentionParams& p) {
  const int count = tile::min_of(*p.merge_count, p.num_merges);
  for (int i = tile::block_index(); i < count; i += tile::num_blocks()) {
    merge_item<c>(p, p.merges[i]);
  }
}

}  // namespace quire::kernels
