// Joins the partial results of split KV (Dao et al. 2023, "Flash-Decoding"), and those of the
// levels of a cascade.
//
// Grid:   any number by ceil(tile_rows / 4).
// Block:  4 warps; warp w of block (i, j) joins row 4 j + w of items i, i + grid, …; in a cascade
// of
//         num_levels items at a time.
// Smem:   none.
// Output: out and lse of every row of every item; 0 and -inf where an item has no parts, NaN where
//         it has -1. Without softmax: the sum of the parts.
// Needs:  partial results of a kernel before it on the same stream.
#pragma once

#include "attention/output_row.h"

namespace quire::kernels {

constexpr int kMergeThreads = 128;

inline i64 partial_row_of(const MergeItem& item, int part, int row) {
  return item.partial_row + static_cast<i64>(part) * item.part_stride + row;
}

// Whether the parts of `num_rows` rows are inside the partial results, whatever the item holds.
inline bool parts_fit(const AttentionParams& p, const MergeItem& item, int num_rows) {
  if (item.num_parts < -1 || item.partial_row < 0 || item.part_stride < 0 || num_rows < 0) {
    return false;
  }
  return item.num_parts <= 0 ||
         partial_row_of(item, item.num_parts - 1, num_rows) <= p.num_partial_rows;
}

// lse of row `row` of the items over all their parts, base 2. Every lane gets it.
inline float joined_lse(const AttentionParams& p, const MergeItem* items, int row) {
  float m = tile::kNegInf;
#pragma unroll 1
  for (int l = 0; l < p.num_levels; ++l) {
    const MergeItem item = items[l];
    for (int s = tile::lane_index(); s < item.num_parts; s += 32) {
      m = tile::max_f32(m, p.partial_lse[partial_row_of(item, s, row)]);
    }
  }
  m = tile::warp::max<32>(m);
  if (m == tile::kNegInf) return m;
  float sum = 0.f;
#pragma unroll 1
  for (int l = 0; l < p.num_levels; ++l) {
    const MergeItem item = items[l];
    for (int s = tile::lane_index(); s < item.num_parts; s += 32) {
      sum += tile::exp2_approx(p.partial_lse[partial_row_of(item, s, row)] - m);
    }
  }
  return m + tile::log2_approx(tile::warp::sum<32>(sum));
}

// Adds eight columns of the row's parts in one item. Unrolled, the kernel takes 72 registers,
// not 56.
template <AttentionConfig c>
inline void add_parts(const AttentionParams& p, const MergeItem& item, int row, int col, float lse,
                      float (&o)[8]) {
#pragma unroll 1
  for (int s = 0; s < item.num_parts; ++s) {
    const i64 part = partial_row_of(item, s, row);
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
}

// items: [num_levels], of the same rows.
template <AttentionConfig c>
inline void merge_rows(const AttentionParams& p, const MergeItem* items) {
  const MergeItem item = items[0];
  if (static_cast<u32>(item.request) >= static_cast<u32>(p.batch_size) ||
      static_cast<u32>(item.kv_head) >= static_cast<u32>(p.num_kv_heads) || item.q_begin < 0) {
    return;
  }
#pragma unroll 1
  for (int l = 0; l < p.num_levels; ++l) {
    if (!parts_fit(p, items[l], item.num_rows)) return;
  }
  const int row = tile::block_index_y() * (kMergeThreads / 32) + tile::warp_index();
  if (row >= item.num_rows) return;
  const i64 packed = static_cast<i64>(item.q_begin) + row;
  const i64 token = p.qo_indptr[item.request] + packed / p.group_size;
  if (token < 0 || token >= p.total_q) return;
  const i64 head = item.kv_head * p.group_size + packed % p.group_size;
  float lse = item.num_parts < 0 ? tile::kNan : 0.f;
  if (c.softmax && item.num_parts >= 0) lse = joined_lse(p, items, row);
  for (int col = 8 * tile::lane_index(); col < c.head_dim_vo; col += 8 * 32) {
    float o[8] = {};
    if (item.num_parts < 0) {
#pragma unroll
      for (int x = 0; x < 8; ++x) o[x] = lse;
    }
#pragma unroll 1
    for (int l = 0; lse > tile::kNegInf && l < p.num_levels; ++l) {
      add_parts<c>(p, items[l], row, col, lse, o);
    }
    write_output_row<c>(p, token, head, col, o, lse, 1.f);
  }
}

template <AttentionConfig c>
inline void attention_merge(const AttentionParams& p) {
  const int count = tile::min_of(*p.merge_count, p.num_merges) / p.num_levels;
  for (int i = tile::block_index(); i < count; i += tile::num_blocks()) {
    merge_rows<c>(p, p.merges + static_cast<i64>(i) * p.num_levels);
  }
}

}  // namespace quire::kernels
