// The end of a work item of attention_decode: the states of the warps are joined, 8 rows at a time,
// and written. Of a tile that was split, that is a partial result; the block that is the last to
// write one then joins all of them, by the same code, as if each warp had computed a share of them.
#pragma once

#include "attention/attention_decode_state.h"
#include "attention/row_result.h"
#include "tile/atomic.h"

namespace quire::kernels {

template <AttentionConfig c>
struct DecodeMerge {
  static constexpr DecodeLayout kLayout = decode_layout(c);

  const AttentionParams& p;
  const DecodeSmem<c> smem;

  // By all threads of the block.
  __forceinline__ void finish(const DecodeItem& item, const DecodeState<c>& state) const {
    const int warp = tile::warp_index();
    const bool computes = warp < kLayout.warps;
    float *row_max = smem.row_max() + 8 * warp, *row_sum = smem.row_sum() + 8 * warp;
    WorkTile t = item.tile;
    // Before the loop, where all of it fits one pass: in the loop it would keep the registers of
    // the state until parts are gathered.
    if (kOnePass && computes) state.store(0, 0, smem.state(warp), row_max, row_sum);
#pragma unroll 1
    for (bool of_parts = false;; of_parts = true) {
#pragma unroll 1
      for (int n = 0; n == 0 || 8 * n < t.num_rows; ++n) {
#pragma unroll 1
        for (int col = 0; col < c.head_dim_vo; col += kLayout.state_cols) {
          if (computes && of_parts) {
            gather(item, n, col, smem.state(warp), row_max, row_sum);
          } else if (computes && !kOnePass) {
            state.store(n, col, smem.state(warp), row_max, row_sum);
          }
          tile::sync_block();
          write(t, n, col, of_parts ? 1.f : item.to_base2);
          if constexpr (!kOnePass) tile::sync_block();
        }
      }
      if (t.partial_row < 0 || !is_last(item)) return;
      t.partial_row = -1;
    }
  }

 private:
  // Eight rows and state_cols columns are left to the block at a time.
  static constexpr bool kOnePass = c.row_tiles == 1 && c.head_dim_vo == kLayout.state_cols;

  // Whether all other parts have been written.
  __forceinline__ bool is_last(const DecodeItem& item) const {
    tile::sync_block();
    if (tile::thread_index() == 0) {
      const u32 last = static_cast<u32>(item.num_parts) - 1;
      smem.is_last() = tile::atomic_count(p.counters + item.first_partial_row / 2, last) == last;
    }
    tile::sync_block();
    return smem.is_last() != 0;
  }

  // Adds this warp's share of the parts to a state: four columns a lane, some rows at the same
  // time.
  __forceinline__ void gather(const DecodeItem& item, int n, int col, float* state, float* row_max,
                              float* row_sum) const {
    constexpr int kRows = DecodeState<c>::kCrowded ? 4 : 8;
#pragma unroll 1
    for (int r = 0; r < 8; r += kRows) {
      gather_rows<kRows>(item, 8 * n + r, col, state + r * kLayout.state_row, row_max + r,
                         row_sum + r);
    }
  }
  template <int num_rows>
  __forceinline__ void gather_rows(const DecodeItem& item, int first_row, int col, float* state,
                                   float* row_max, float* row_sum) const {
    const int lane = tile::lane_index(), rows = item.tile.num_rows;
    const int my_col = col + 4 * lane;
    const bool mine = 4 * lane < kLayout.state_cols && my_col < c.head_dim_vo;
    float m[num_rows], sum[num_rows] = {}, acc[num_rows][4] = {};
#pragma unroll
    for (int r = 0; r < num_rows; ++r) m[r] = tile::kNegInf;
#pragma unroll 1
    for (int s = tile::warp_index(); s < item.num_parts; s += kLayout.warps) {
      const i64 first = item.first_partial_row + static_cast<i64>(s) * rows + first_row;
      float lse[num_rows], o[num_rows][4] = {};
#pragma unroll
      for (int r = 0; r < num_rows; ++r) {
        const bool there = first_row + r < rows;
        lse[r] = there ? p.partial_lse[first + r] : tile::kNegInf;
        if (there && mine) tile::load<4>(o[r], p.partial_o + (first + r) * c.head_dim_vo + my_col);
      }
#pragma unroll
      for (int r = 0; r < num_rows; ++r) {
        const float both = tile::max_f32(m[r], lse[r]);
        const float offset = both == tile::kNegInf ? 0.f : both;
        const float keep = tile::exp2_approx(m[r] - offset);
        const float weight = tile::exp2_approx(lse[r] - offset);
        m[r] = both;
        sum[r] = sum[r] * keep + weight;
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[r][i] = acc[r][i] * keep + weight * o[r][i];
      }
    }
#pragma unroll
    for (int r = 0; r < num_rows; ++r) {
      if (mine) tile::store<4>(state + r * kLayout.state_row + 4 * lane, acc[r]);
      if (lane == 0) row_max[r] = m[r], row_sum[r] = sum[r];
    }
  }

  // Rows 8 n to 8 n + 7, columns from `first_col` on: eight columns a thread.
  __forceinline__ void write(const WorkTile& t, int n, int first_col, float to_base2) const {
    const int cols = tile::min_of(kLayout.state_cols, c.head_dim_vo - first_col);
    const int chunks = cols / 8, rows = tile::min_of(8, t.num_rows - 8 * n);
#pragma unroll 1
    for (int i = tile::thread_index(); i < rows * chunks; i += kLayout.threads) {
      const int row = i / chunks, col = i % chunks * 8;
      float part_scale[kLayout.warps];
      const RowResult result =
          join_row<true>(smem.row_max() + row, smem.row_sum() + row, 8, to_base2, part_scale);
      float o[8] = {};
#pragma unroll
      for (int j = 0; j < kLayout.warps; ++j) {
        const float* src = smem.state(j) + row * kLayout.state_row + col;
        float low[4], high[4];
        tile::load<4>(low, src);
        tile::load<4>(high, src + 4);
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          o[x] += low[x] * part_scale[j];
          o[x + 4] += high[x] * part_scale[j];
        }
      }
      write_row<c>(p, t, 8 * n + row, first_col + col, o, result);
    }
  }
};

}  // namespace quire::kernels
