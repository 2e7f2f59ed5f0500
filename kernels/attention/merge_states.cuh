// Merges the attention states (v, s) of disjoint KV sets, row by row. FlashInfer's "recursive
// attention"; the identity is (0, -inf).
//
// Grid:   any number of blocks; block b takes groups of threads / 32 rows: b, b + grid, …
// Block:  c.threads; a warp merges one row.
// Smem:   none.
// Output: v_out and s_out of every row whose mask is not 0; they may alias the inputs of that row.
// Needs:  any GPU.
#pragma once

#include "attention/merge_types.h"
#include "tile/vec.h"
#include "tile/warp.h"

namespace quire::kernels {

// One row's states.
template <MergeStatesConfig c>
struct StateRow {
  using First = tile::storage_t<c.dtype>;
  using Other = tile::storage_t<c.others_dtype>;
  using Out = tile::storage_t<c.out_dtype>;
  const MergeStatesParams& p;
  i64 entry, head;

  float s(int state) const {
    if (state == 0) return p.s0[entry * p.s0_entry_stride + head];
    return p.ss[entry * p.ss_entry_stride + (state - 1) * p.ss_state_stride + head];
  }
  void load(float (&v)[c.vec_elems], int state, int col) const {
    if (state == 0) {
      tile::load(v, static_cast<const First*>(p.v0) + entry * p.v0_entry_stride +
                        head * p.v0_head_stride + col);
    } else {
      tile::load(v, static_cast<const Other*>(p.vs) + entry * p.vs_entry_stride +
                        (state - 1) * p.vs_state_stride + head * p.vs_head_stride + col);
    }
  }
  Out* out() const {
    return static_cast<Out*>(p.v_out) + entry * p.out_entry_stride + head * p.out_head_stride;
  }
};

template <MergeStatesConfig c>
inline void merge_row(const MergeStatesParams& p, i64 entry, i64 head) {
  const StateRow<c> row{p, entry, head};
  const int lane = tile::lane_index();
  const float to_base2 = p.base_e ? tile::kLog2e : 1.f;

  float largest = tile::kNegInf;
  for (int i = lane; i < p.num_states; i += 32) largest = tile::max_f32(largest, row.s(i));
  largest = tile::warp::max<32>(largest);
  // While all are empty any finite shift does: 2^-inf is 0.
  const float shift = largest == tile::kNegInf ? 0.f : largest;
  float sum = 0.f;
  for (int i = lane; i < p.num_states; i += 32) {
    sum += tile::exp2_approx((row.s(i) - shift) * to_base2);
  }
  sum = tile::warp::sum<32>(sum);
  const float scale = sum == 0.f ? 0.f : 1.f / sum;

  for (int col = lane * c.vec_elems; col < p.head_dim; col += 32 * c.vec_elems) {
    float merged[c.vec_elems] = {};
    for (int i = 0; i < p.num_states; ++i) {
      const float weight = tile::exp2_approx((row.s(i) - shift) * to_base2) * scale;
      if (weight == 0.f) continue;  // an empty state, whose v may be anything
      float v[c.vec_elems];
      row.load(v, i, col);
#pragma unroll
      for (int x = 0; x < c.vec_elems; ++x) merged[x] += weight * v[x];
    }
    constexpr int kAccess = tile::min_of(c.vec_elems, 16 / size_bytes(c.out_dtype));
    tile::store_by<kAccess>(row.out() + col, merged);
  }
  tile::sync_warp();  // every lane has read s, which s_out may alias
  if (lane == 0) {
    p.s_out[row.entry * p.heads + row.head] =
        sum == 0.f ? tile::kNegInf : largest + tile::log2_approx(sum) / to_base2;
  }
}

template <MergeStatesConfig c>
inline void merge_states(const MergeStatesParams& p) {
  constexpr int kRowsPerBlock = c.threads / 32;
  const i64 step = static_cast<i64>(tile::num_blocks()) * kRowsPerBlock;
  i64 row = static_cast<i64>(tile::block_index()) * kRowsPerBlock + tile::warp_index();
  for (; row < p.rows; row += step) {
    const i64 entry = row / p.heads;
    if (p.mask && p.mask[entry] == 0) continue;
    merge_row<c>(p, entry, row % p.heads);
  }
}

}  // namespace quire::kernels
