// Joins the partial results of split KV (Dao et al. 2023, "Flash-Decoding"), and those of the
// levels of a cascade.
//
// Grid:   any numbers.
// Block:  joins merge_block_rows(head_dim_vo) rows at a time: block (i, j) of an n by m grid groups
//         j, j + m, … of so many rows, of items i, i + n, …; in a cascade of num_levels items at a
//         time.
// Smem:   none.
// Output: out and lse of every row of every item; 0 and -inf where an item has no parts, NaN where
//         it has -1. Without softmax: the sum of the parts.
// Needs:  partial results of a kernel before it on the same stream.
#pragma once

#include "attention/attention_merge_layout.h"
#include "attention/output_row.h"
#include "tile/launch_order.h"
#include "tile/uncached.h"

namespace quire::kernels {

// Of a row: what has been added up, relative to 2^m, and of it the columns of a lane: two times
// four, so that neighbouring lanes load neighbouring memory.
struct MergeState {
  float m = tile::kNegInf, sum = 0.f, o[2][4] = {};
};

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

// The items of a tile, and what its rows are.
struct MergeTile {
  const MergeItem* items;  // [num_levels]
  MergeItem first;         // of them; without rows where any points nowhere
  i64 first_token;         // row of q of the request's token 0
};

inline MergeTile find_tile(const AttentionParams& p, int index) {
  MergeTile t{p.merges + static_cast<i64>(index) * p.num_levels, {}, 0};
  const MergeItem item = *t.items;
  if (static_cast<u32>(item.request) >= static_cast<u32>(p.batch_size) ||
      static_cast<u32>(item.kv_head) >= static_cast<u32>(p.num_kv_heads) || item.q_begin < 0) {
    return t;
  }
#pragma unroll 1
  for (int l = 0; l < p.num_levels; ++l) {
    if (!parts_fit(p, t.items[l], item.num_rows)) return t;
  }
  t.first = item;
  t.first_token = p.qo_indptr[item.request];
  return t;
}

// Adds the row's parts in one item. The loads of kBatch parts are under way together: what a merge
// takes is the time of loads.
template <AttentionConfig c>
inline void add_parts(const AttentionParams& p, const MergeItem& item, int row, int col,
                      MergeState& state) {
  constexpr int kBatch = 2, kNext = 4 * merge_row_lanes(c.head_dim_vo);
#pragma unroll 1
  for (int s = 0; s < item.num_parts; s += kBatch) {
    float o[kBatch][2][4], lse[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      lse[i] = tile::kNegInf;
      if (s + i >= item.num_parts) continue;
      const i64 part = partial_row_of(item, s + i, row);
      lse[i] = c.softmax ? tile::load_uncached(p.partial_lse + part) : 0.f;
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        if (c.head_dim_vo % (2 * kNext) != 0 && col + x * kNext >= c.head_dim_vo) continue;
        tile::load_uncached(o[i][x], p.partial_o + part * c.head_dim_vo + col + x * kNext);
      }
    }
    float m = state.m;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) m = tile::max_f32(m, lse[i]);
    const float offset = m == tile::kNegInf ? 0.f : m;
    const float keep = tile::exp2_approx(state.m - offset);
    state.sum *= keep;
#pragma unroll
    for (int x = 0; x < 8; ++x) state.o[x / 4][x % 4] *= keep;
    state.m = m;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float weight = tile::exp2_approx(lse[i] - offset);
      if (weight == 0.f) continue;  // an empty part, or none
      state.sum += weight;
#pragma unroll
      for (int x = 0; x < 8; ++x) state.o[x / 4][x % 4] += weight * o[i][x / 4][x % 4];
    }
  }
}

// Without writing it where it is for practice.
template <AttentionConfig c>
inline void merge_row(const AttentionParams& p, const MergeTile& t, int row, bool practice) {
  constexpr int kLanes = merge_row_lanes(c.head_dim_vo), kNext = 4 * kLanes;
  const i64 packed = static_cast<i64>(t.first.q_begin) + row;
  const i64 token = t.first_token + packed / p.group_size;
  if (token < 0 || token >= p.total_q) return;
  const i64 head = t.first.kv_head * p.group_size + packed % p.group_size;
  for (int col = tile::lane_index() % kLanes * 4; col < c.head_dim_vo; col += 2 * kNext) {
    MergeState state;
    add_parts<c>(p, t.first, row, col, state);
#pragma unroll 1
    for (int l = 1; l < p.num_levels; ++l) add_parts<c>(p, t.items[l], row, col, state);
    if (practice) continue;
    float lse = state.sum == 0.f ? tile::kNegInf : state.m + tile::log2_approx(state.sum);
    float o_scale = !c.softmax ? 1.f : state.sum == 0.f ? 0.f : 1.f / state.sum;
    if (t.first.num_parts < 0) lse = o_scale = tile::kNan;
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      if (c.head_dim_vo % (2 * kNext) != 0 && col + x * kNext >= c.head_dim_vo) continue;
      write_output_row<c>(p, token, head, col + x * kNext, state.o[x], lse, o_scale);
    }
  }
}

// The plan's arrays are older than the kernel before this one, and that had seen them when it let
// this one start: they are read while it ends. So are partial results, whatever they are yet, for
// practice: after a long kernel instructions come from memory too, which takes longer than a merge.
template <AttentionConfig c>
inline void attention_merge(const AttentionParams& p) {
  constexpr int kRows = merge_block_rows(c.head_dim_vo);
  const int stride = tile::num_blocks_y() * kRows;
  const int first_row =
      tile::block_index_y() * kRows + tile::thread_index() / merge_row_lanes(c.head_dim_vo);
  const int count = tile::min_of(*p.merge_count, p.num_merges) / p.num_levels;
  int index = tile::block_index();
  MergeTile t{};
  if (index < count) t = find_tile(p, index);
#pragma unroll 1
  for (bool practice = true;; practice = false) {
    if (!practice) {
      tile::wait_for_kernels_before();
      tile::let_next_kernel_start();
    }
    while (index < count) {
#pragma unroll 1
      for (int row = first_row; row < t.first.num_rows; row += stride) {
        merge_row<c>(p, t, row, practice);
        if (practice) break;
      }
      if (practice) break;
      index += tile::num_blocks();
      if (index < count) t = find_tile(p, index);
    }
    if (!practice) break;
  }
}

}  // namespace quire::kernels
