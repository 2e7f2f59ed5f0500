// The end of a work item of attention_decode: the states of the warps are joined, a warp a row, and
// written. Of a tile that was split, that is a partial result; the warp that is the last to write a
// row's then joins all of them. Where they are many, it joins those of a group, and the last
// group's warp the groups: one multiprocessor would take long to read all. Nobody waits for other
// warps between the one and the other. The parts of a row lie one behind the other, so that one
// address is enough for all of them.
#pragma once

#include "attention/attention_decode_state.h"
#include "attention/row_result.h"
#include "tile/atomic.h"
#include "tile/uncached.h"

namespace quire::kernels {

template <AttentionConfig c>
struct DecodeMerge {
  static constexpr DecodeLayout kLayout = decode_layout(c);

  const AttentionParams& p;
  const DecodeSmem<c> smem;

  // By all threads of the block.
  __forceinline__ void finish(const DecodeItem& item, const DecodeState<c>& state) const {
    const int warp = tile::warp_index();
    const WorkTile& t = item.tile;
#pragma unroll 1
    for (int n = 0; n < c.row_tiles && (n == 0 || 8 * n < t.num_rows); ++n) {
#pragma unroll 1
      for (int col = 0; col < c.head_dim_vo; col += kLayout.state_cols) {
        if (warp < kLayout.warps) {
          state.store(n, col, smem.state(warp), smem.row_max() + 8 * warp,
                      smem.row_sum() + 8 * warp);
        }
        tile::sync_block();
#pragma unroll 1
        for (int row = warp; row < 8 && 8 * n + row < t.num_rows; row += kWarps) {
          write(item, 8 * n, row, col);
        }
        if constexpr (!kOnePass) tile::sync_block();
      }
    }
    if (t.partial_row >= 0) join_arrived(item);
  }

 private:
  // Eight rows and state_cols columns are left to the block at a time.
  static constexpr bool kOnePass = c.row_tiles == 1 && c.head_dim_vo == kLayout.state_cols;
  static constexpr int kWarps = kLayout.threads / tile::kWarpSize;
  static constexpr int kLaneCols = 4;
  static_assert(c.tile_q <= tile::kWarpSize);

  // Of a row, the columns from `first_col` on that the warps have left.
  __forceinline__ void write(const DecodeItem& item, int first_row, int row, int first_col) const {
    const int col = kLaneCols * tile::lane_index();
    if (col >= kLayout.state_cols || first_col + col >= c.head_dim_vo) return;
    float part_scale[kLayout.warps];
    const RowResult result =
        join_row<true>(smem.row_max() + row, smem.row_sum() + row, 8, item.to_base2, part_scale);
    float o[kLaneCols] = {};
#pragma unroll
    for (int j = 0; j < kLayout.warps; ++j) {
      float of_warp[kLaneCols];
      tile::load<kLaneCols>(of_warp, smem.state(j) + row * kLayout.state_row + col);
#pragma unroll
      for (int i = 0; i < kLaneCols; ++i) o[i] += of_warp[i] * part_scale[j];
    }
    WorkTile t = item.tile;
    if (t.partial_row >= 0) t.partial_row += (first_row + row) * (item.num_parts - 1);
    write_row<c>(p, t, first_row + row, first_col + col, o, result);
  }

  // Parts are joined by so many, and then these, where they are more than one multiprocessor had
  // better read. The largest kernels do without: they take long enough to compile.
  static constexpr int kGroup = 16;
  static __forceinline__ bool in_groups(const DecodeItem& item) {
    constexpr int kMostRows = 256 * 1024 / 4 / c.head_dim_vo;  // fewer are read sooner than counted
    if constexpr (c.row_tiles > 2) return false;
    return item.num_parts > kGroup && item.num_parts * item.tile.num_rows > kMostRows;
  }

  // Counts the rows that this warp has written, and joins those whose other parts have been
  // written too.
  __forceinline__ void join_arrived(const DecodeItem& item) const {
    const int lane = tile::lane_index(), num_rows = item.tile.num_rows;
    const bool grouped = in_groups(item);
    const int part = item.tile.partial_row - item.first_partial_row;
    const int first = grouped ? part / kGroup * kGroup : 0;
    const int parts = grouped ? tile::min_of(kGroup, item.num_parts - first) : item.num_parts;
    u32 rows = tile::warp::ballot(lane < num_rows && lane % 8 % kWarps == tile::warp_index());
    if (parts > 1) {
      // Half as many counters as rows of parts: those of the first group leave some to its tile.
      const i64 row = item.first_partial_row + static_cast<i64>(first) * num_rows;
      rows = arrived(rows, p.counters + row / 2, parts);
#pragma unroll 1
      for (int r = 0; r < num_rows; ++r) {
        if (rows >> r & 1) join_parts<1>(item, r, first, parts, !grouped);
      }
    }
    if (!grouped) return;
    const int groups = tile::ceil_div(item.num_parts, kGroup);
    rows = arrived(rows, p.counters + item.first_partial_row / 2 + num_rows, groups);
#pragma unroll 1
    for (int r = 0; r < num_rows; ++r) {
      if (rows >> r & 1) join_parts<kGroup>(item, r, 0, groups, true);
    }
  }

  // Counts one of `parts` of `rows`, a bit each; returns those of which it was the last.
  static __forceinline__ u32 arrived(u32 rows, u32* counters, int parts) {
    const int row = tile::lane_index();
    const u32 last = static_cast<u32>(parts) - 1;
    tile::sync_warp();
    bool complete = false;
    if (rows >> row & 1) complete = tile::atomic_count(counters + row, last) == last;
    rows = tile::warp::ballot(complete);
    tile::sync_warp();
    return rows;
  }

  // Of `count` parts, the first and every stride-th. all: into the output, else into the place of
  // the first.
  template <int stride>
  __forceinline__ void join_parts(const DecodeItem& item, int row, int first_part, int count,
                                  bool all) const {
    constexpr int kBatch = DecodeState<c>::kCrowded ? 8 : 16;  // whose loads are under way together
    constexpr int kPassCols = kLaneCols * tile::kWarpSize;
    const int lane = tile::lane_index();
    const i64 begin = item.first_partial_row + static_cast<i64>(row) * item.num_parts + first_part;
    WorkTile t = item.tile;
    t.partial_row = all ? -1 : static_cast<int>(begin) - row;
    // The first columns last: with them the lse is written, which the others read.
#pragma unroll 1
    for (int first_col = (c.head_dim_vo - 1) / kPassCols * kPassCols; first_col >= 0;
         first_col -= kPassCols) {
      const int col = first_col + kLaneCols * lane;
      float m = tile::kNegInf, sum = 0.f, acc[kLaneCols] = {};
#pragma unroll 1
      for (int s = 0; s < count; s += kBatch) {
        const int left = count - s, part = lane % kBatch;
        const i64 first = begin + s * stride;
        const float* parts = p.partial_o + first * c.head_dim_vo + col;
        float o[kBatch][kLaneCols] = {};
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (i >= left || col >= c.head_dim_vo) continue;
          tile::load_uncached(o[i], parts + i * stride * c.head_dim_vo);
        }
        // The last of the loads: what is made of it would wait for it before the others begin.
        float lse = tile::kNegInf;
        if (part < left) lse = tile::load_uncached(p.partial_lse + first + part * stride);
        const float both = tile::max_f32(m, tile::warp::max<kBatch>(lse));
        const float offset = both == tile::kNegInf ? 0.f : both;
        const float keep = tile::exp2_approx(m - offset);
        const float weight = tile::exp2_approx(lse - offset);
        m = both;
        sum = sum * keep + tile::warp::sum<kBatch>(weight);
#pragma unroll
        for (int j = 0; j < kLaneCols; ++j) acc[j] *= keep;
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const float of_part = tile::warp::shuffle(weight, i);
#pragma unroll
          for (int j = 0; j < kLaneCols; ++j) acc[j] += of_part * o[i][j];
        }
      }
      tile::sync_warp();  // the first of the parts may be written over
      if (col >= c.head_dim_vo) continue;
      const RowResult result = sum == 0.f ? RowResult{tile::kNegInf, 0.f}
                                          : RowResult{m + tile::log2_approx(sum), 1.f / sum};
      write_row<c>(p, t, row, col, acc, result);
    }
  }
};

}  // namespace quire::kernels
