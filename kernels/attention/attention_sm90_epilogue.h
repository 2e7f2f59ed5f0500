// The end of a work item in attention_sm90: normalises the rows of a warp and writes them, straight
// from the accumulators.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "attention/online_softmax.h"
#include "attention/scales.h"
#include "tile/mma.h"
#include "tile/tma.h"
#include "tile/vec.h"

namespace quire::kernels {

// Transposes 4 x 4 words over the lanes of a quad: lane t's word j becomes lane j's word t.
__forceinline__ void transpose_quad(u32 (&w)[4]) {
  const int t = tile::lane_index() % 4;
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j & bit) continue;
      const u32 sent = t & bit ? w[j] : w[j + bit];
      const u32 received = tile::warp::shuffle_xor(sent, bit);
      (t & bit ? w[j] : w[j + bit]) = received;
    }
  }
}

// One row of a quad, whose lane t holds columns 8 i + 2 t and + 1 in o[4 i + 2 half] and the next,
// to `dst`; by all lanes of the warp, `valid` the same in a quad.
template <bool aligned, int head_dim, class T>
__forceinline__ void write_row(T* dst, const float (&o)[head_dim / 2], int half, float scale,
                               bool valid) {
  const int t = tile::lane_index() % 4;
  constexpr int kBlocks = head_dim / 8;
  if constexpr (aligned && sizeof(T) == 2) {
#pragma unroll
    for (int first = 0; first < kBlocks; first += 4) {  // 16 bytes a lane
      tile::Vec<u32, 4> words;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = 4 * (first + j) + 2 * half;
        words.data[j] = first + j < kBlocks ? tile::pack2<T>(o[i] * scale, o[i + 1] * scale) : 0u;
      }
      transpose_quad(words.data);
      if (valid && first + t < kBlocks) {
        *reinterpret_cast<tile::Vec<u32, 4>*>(dst + 8 * (first + t)) = words;
      }
    }
  } else if (valid) {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const float pair[2] = {o[4 * i + 2 * half] * scale, o[4 * i + 2 * half + 1] * scale};
      T* to = dst + 8 * i + 2 * t;
      if constexpr (aligned) {
        tile::store<2>(to, pair);
      } else {
        to[0] = tile::from_float<T>(pair[0]);
        to[1] = tile::from_float<T>(pair[1]);
      }
    }
  }
}

// What ends a row: the factor that normalises o, and lse to base 2. offset, sum: its softmax terms
// are relative to 2^offset and have this sum.
struct RowEnd {
  float scale, lse;
};
__forceinline__ RowEnd end_row(float offset, float sum) {
  if (sum == 0.f) return {0.f, tile::kNegInf};
  return {tile::reciprocal_approx(sum), offset + tile::log2_approx(sum)};
}

// Writes the lse of a row that `end` belongs to.
__forceinline__ void write_lse(const AttentionParams& p, i64 token, i64 head, float lse) {
  p.lse[token * p.num_qo_heads + head] = p.lse_base_e ? lse * tile::kLn2 : lse;
}

// The warp's 16 rows from `first_row` of the tile on, row by row.
template <AttentionConfig c>
__forceinline__ void write_rows(const AttentionParams& p, const Sm90Item& t, int first_row,
                                const float (&o)[c.head_dim_vo / 2], const RowEnd (&ends)[2]) {
  const int lane = tile::lane_index();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    RowEnd end = ends[half];
    const int row = first_row + lane / 4 + 8 * half;
    const bool valid = row < t.num_rows;
    if (t.partial_row >= 0) {
      const i64 partial = static_cast<i64>(t.partial_row) + row;
      write_row<true, c.head_dim_vo>(p.partial_o + partial * c.head_dim_vo, o, half, end.scale,
                                     valid);
      if (valid && lane % 4 == 0) p.partial_lse[partial] = end.lse;
      continue;
    }
    const PackedRow at = packed_row(t, row, p.group_size);
    const i64 token = t.first_q_row + at.token, head = at.head;
    if (c.softmax && p.sinks && valid) {
      const SinkedState state = add_sink(end.lse, p.sinks[head]);
      end = {end.scale * state.o_scale, state.lse};
    }
    using T = tile::storage_t<c.o_dtype>;
    T* dst = static_cast<T*>(p.out) + token * p.out_token_stride + head * p.out_head_stride;
    write_row<c.aligned, c.head_dim_vo>(dst, o, half, end.scale * value_scale<c>(p, t.kv_head),
                                        valid);
    if (c.softmax && p.lse && valid && lane % 4 == 0) write_lse(p, token, head, end.lse);
  }
}

// The same for 16 rows that are all there, by the copy engine. stage: panels of tile_q rows that
// the copy reads until tma::wait_stores_read().
template <AttentionConfig c>
__forceinline__ void write_box(const AttentionSm90Params& params, const Sm90Item& t, int first_row,
                               u8* stage, const float (&o)[c.head_dim_vo / 2],
                               const RowEnd (&ends)[2]) {
  using T = tile::storage_t<c.o_dtype>;
  const AttentionParams& p = params.attention;
  const int lane = tile::lane_index();
  const int row = lane % 16;
  float scale[2] = {ends[0].scale, ends[1].scale};
  if (c.softmax && (p.lse || p.sinks)) {
    const int owner = row % 8 * 4;  // of lane row's row
    const float lse0 = tile::warp::shuffle(ends[0].lse, owner);
    const float lse1 = tile::warp::shuffle(ends[1].lse, owner);
    SinkedState state{row < 8 ? lse0 : lse1, 1.f};
    const PackedRow at = packed_row(t, first_row + row, p.group_size);
    if (p.sinks) {
      state = add_sink(state.lse, p.sinks[at.head]);
      scale[0] *= tile::warp::shuffle(state.o_scale, lane / 4);
      scale[1] *= tile::warp::shuffle(state.o_scale, lane / 4 + 8);
    }
    if (p.lse && lane < 16) write_lse(p, t.first_q_row + at.token, at.head, state.lse);
  }
  scale[0] *= value_scale<c>(p, t.kv_head);
  scale[1] *= value_scale<c>(p, t.kv_head);
#pragma unroll
  for (int i = 0; i < c.head_dim_vo / 16; ++i) {
    const float* x = o + 8 * i;
    u8* panel = stage + i / 4 * (c.tile_q * 128) + (first_row + row) * 128;
    tile::stmatrix_x4(panel + ((i % 4 * 2 + lane / 16) ^ row % 8) * 16,
                      tile::pack2<T>(x[0] * scale[0], x[1] * scale[0]),
                      tile::pack2<T>(x[2] * scale[1], x[3] * scale[1]),
                      tile::pack2<T>(x[4] * scale[0], x[5] * scale[0]),
                      tile::pack2<T>(x[6] * scale[1], x[7] * scale[1]));
  }
  tile::fence_async_proxy();
  tile::sync_warp();
  if (lane == 0) {
    const int token = t.first_q_row + packed_row(t, first_row, p.group_size).token;
#pragma unroll
    for (int panel = 0; panel < sm90_layout(c).out_panels; ++panel) {
      tile::tma::store_4d(params.out, stage + panel * (c.tile_q * 128) + first_row * 128,
                          panel * 64, 0, token, t.kv_head);
    }
    tile::tma::commit_stores();
  }
}

}  // namespace quire::kernels
