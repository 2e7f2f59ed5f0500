// RMSNorm over rows, alone or after adding to the residual stream.
//
// Grid:   any number of blocks; block b takes groups of threads / threads_per_row rows: b, b + grid
// … Block:  c.threads; threads_per_row neighbours share one row Smem:   32 floats, the warps' sums,
// when a row has more than one warp Output: out, and with fused_add residual. out may be input
// Needs:  any GPU
#pragma once

#include "norm/norm_types.h"
#include "tile/vec.h"
#include "tile/warp.h"

namespace quire::kernels {

// Sum over the threads of a row. Every thread of the block calls it.
template <RmsNormConfig c>
inline float sum_over_row(float x) {
  x = tile::warp::sum<tile::min_of(c.threads_per_row, 32)>(x);
  if constexpr (c.threads_per_row > 32) {
    constexpr int kWarps = c.threads_per_row / 32;
    float* warp_sums = reinterpret_cast<float*>(tile::shared_memory());
    tile::sync_block();  // the sums of the previous row have been read
    if (tile::lane_index() == 0) warp_sums[tile::warp_index()] = x;
    tile::sync_block();
    x = tile::warp::sum<kWarps>(warp_sums[tile::lane_index() % kWarps]);
  }
  return x;
}

// The pointers of one row.
template <RmsNormConfig c>
struct RmsNormRow {
  using T = tile::storage_t<c.dtype>;
  static constexpr int kVec = c.vec_elems;
  const T* input;
  T* residual;
  const T* weight;
  T* out;

  RmsNormRow(const RmsNormParams& p, i32 row) {
    const i64 token = p.heads == 1 ? row : row / p.heads;
    const i64 head = p.heads == 1 ? 0 : row % p.heads;
    input =
        static_cast<const T*>(p.input) + token * p.input_token_stride + head * p.input_head_stride;
    residual = static_cast<T*>(p.residual) + token * p.residual_token_stride +
               head * p.residual_head_stride;
    weight = static_cast<const T*>(p.weight);
    out = static_cast<T*>(p.out) + token * p.out_token_stride + head * p.out_head_stride;
  }

  // The values to normalise. With fused_add they are the residual as it is stored, rounded.
  void read(int vec, float (&x)[kVec]) const {
    tile::load<kVec>(x, input + vec * kVec);
    if constexpr (c.fused_add) {
      float r[kVec];
      tile::load<kVec>(r, residual + vec * kVec);
#pragma unroll
      for (int j = 0; j < kVec; ++j) x[j] = tile::to_float(tile::from_float<T>(x[j] + r[j]));
      tile::store<kVec>(residual + vec * kVec, x);
    }
  }
  // The same values once more, after read().
  void read_again(int vec, float (&x)[kVec]) const {
    tile::load<kVec>(x, (c.fused_add ? residual : input) + vec * kVec);
  }
  void write(int vec, const float (&x)[kVec], float scale) const {
    float w[kVec], y[kVec];
    tile::load<kVec>(w, weight + vec * kVec);
#pragma unroll
    for (int j = 0; j < kVec; ++j) y[j] = x[j] * scale * w[j];
    tile::store<kVec>(out + vec * kVec, y);
  }
};

template <int n>
inline float sum_of_squares(const float (&x)[n]) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < n; ++j) sum = tile::fma_f32(x[j], x[j], sum);
  return sum;
}

inline float rms_scale(float sum_of_squares, const RmsNormParams& p) {
  return 1.f / tile::sqrt_f32(sum_of_squares / static_cast<float>(p.hidden) + p.eps);
}

// One row, held in registers between the two passes. A row that is not `live` takes part in the
// barriers only.
template <RmsNormConfig c>
inline void rms_norm_kept(const RmsNormParams& p, const RmsNormRow<c>& row, int lane, bool live) {
  constexpr int kVec = c.vec_elems;
  const int num_vecs = live ? p.hidden / kVec : 0;
  float x[c.vecs_per_thread][kVec];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < c.vecs_per_thread; ++i) {
    const int vec = lane + i * c.threads_per_row;
    if (vec < num_vecs) {
      row.read(vec, x[i]);
      sum += sum_of_squares(x[i]);
    }
  }
  const float scale = rms_scale(sum_over_row<c>(sum), p);
#pragma unroll
  for (int i = 0; i < c.vecs_per_thread; ++i) {
    const int vec = lane + i * c.threads_per_row;
    if (vec < num_vecs) row.write(vec, x[i], scale);
  }
}

// One row too long for the registers.
template <RmsNormConfig c>
inline void rms_norm_reread(const RmsNormParams& p, const RmsNormRow<c>& row, int lane, bool live) {
  constexpr int kVec = c.vec_elems;
  const int num_vecs = live ? p.hidden / kVec : 0;
  float sum = 0;
  for (int vec = lane; vec < num_vecs; vec += c.threads_per_row) {
    float x[kVec];
    row.read(vec, x);
    sum += sum_of_squares(x);
  }
  const float scale = rms_scale(sum_over_row<c>(sum), p);
  for (int vec = lane; vec < num_vecs; vec += c.threads_per_row) {
    float x[kVec];
    row.read_again(vec, x);
    row.write(vec, x, scale);
  }
}

template <RmsNormConfig c>
void rms_norm(const RmsNormParams& p) {
  constexpr int kRowsPerBlock = c.threads / c.threads_per_row;
  const int lane = tile::thread_index() % c.threads_per_row;
  const i64 step = static_cast<i64>(tile::num_blocks()) * kRowsPerBlock;
  for (i64 first = static_cast<i64>(tile::block_index()) * kRowsPerBlock; first < p.rows;
       first += step) {
    const i64 row = first + tile::thread_index() / c.threads_per_row;
    const bool live = row < p.rows;
    const RmsNormRow<c> pointers(p, live ? static_cast<i32>(row) : 0);
    if constexpr (c.vecs_per_thread > 0) {
      rms_norm_kept<c>(p, pointers, lane, live);
    } else {
      rms_norm_reread<c>(p, pointers, lane, live);
    }
  }
}

}  // namespace quire::kernels
