// RMSNorm and LayerNorm over rows, alone or after adding to the residual stream, to the dtype of
// the input or to fp8.
//
// Grid:   ceil(rows / (threads / threads_per_row)) blocks: many short-lived ones, so that loads of
//         one hide under the sums of others
// Block:  c.threads; threads_per_row neighbours share one row
// Smem:   2 x 32 floats, the warps' sums, when a row has more than one warp
// Output: out, computed_scales, and with fused_add residual. out may be input
// Needs:  any GPU
#pragma once

#include "norm/norm_row.h"
#include "tile/group.h"

namespace quire::kernels {

// Sum of (x - mean)^2 over the values of a thread.
template <NormConfig c>
inline float sum_of_squares(NormRow<c>& row, float mean) {
  float sum = 0;
  row.each([&](const float(&x)[c.vec_elems], int, int) {
#pragma unroll
    for (int j = 0; j < c.vec_elems; ++j) {
      const float d = c.kind == NormKind::layer ? x[j] - mean : x[j];
      sum = tile::fma_f32(d, d, sum);
    }
  });
  return sum;
}

template <NormConfig c>
inline void write_scaled_rms(const NormParams& p, NormRow<c>& row, float* row_scale) {
  constexpr int kVec = c.vec_elems;
  constexpr bool kKept = NormRow<c>::kIsKept;
  float squares = 0, amax = 0;
  float products[kKept ? NormRow<c>::kNumSlots : 1][kVec];
  row.each_kept([&](float(&x)[kVec], int i, int at, bool inside) {
    float sum = 0, largest = 0;
#pragma unroll
    for (int j = 0; j < kVec; ++j) sum = tile::fma_f32(x[j], x[j], sum);
    row.weigh(x, i, at, p.weight_bias);
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      largest = tile::max_f32(largest, tile::abs_f32(x[j]));
      if constexpr (kKept) products[i][j] = x[j];
    }
    squares += inside ? sum : 0.f;
    amax = tile::max_f32(amax, inside ? largest : 0.f);
  });
  tile::Group<c.threads_per_row>().sum_and_max(squares, amax);
  const float scale = 1.f / tile::sqrt_f32(squares / static_cast<float>(p.hidden) + p.eps);
  const float out_scale = fp8_scale(amax * scale, c.out_dtype, p.power_of_two);
  if (row_scale != nullptr) *row_scale = out_scale;
  const float factor = scale * (1.f / out_scale);
  row.each([&](float(&x)[kVec], int i, int at) {
    if constexpr (!kKept) row.weigh(x, i, at, p.weight_bias);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] = (kKept ? products[kKept ? i : 0][j] : x[j]) * factor;
    row.write(at, x);
  });
}

template <NormConfig c>
void normalize(const NormParams& p) {
  constexpr int kVec = c.vec_elems;
  constexpr int kRowsPerBlock = c.threads / c.threads_per_row;
  const int lane = tile::thread_index() % c.threads_per_row;
  const i64 index = static_cast<i64>(tile::block_index()) * kRowsPerBlock +
                    tile::thread_index() / c.threads_per_row;
  const bool live = index < p.rows;
  NormRow<c> row(p, live ? index : 0, lane, live);
  row.read();
  if constexpr (is_scaled_rms(c)) {
    return write_scaled_rms(p, row, live && lane == 0 ? p.computed_scales + index : nullptr);
  }

  tile::Group<c.threads_per_row> over_row;

  const float size = static_cast<float>(p.hidden);
  float mean = 0;
  if constexpr (c.kind == NormKind::layer) {
    row.each([&](const float(&x)[kVec], int, int) {
#pragma unroll
      for (int j = 0; j < kVec; ++j) mean += x[j];
    });
    mean = over_row.sum(mean) / size;
  }
  const float squares = over_row.sum(sum_of_squares(row, mean));
  const float scale = 1.f / tile::sqrt_f32(squares / size + p.eps);

  float inverse = 1;  // of the scale of the output
  if constexpr (c.scaling == Scaling::given) {
    inverse = 1.f / (p.given_scale != nullptr ? *p.given_scale : p.scale_value);
  }
  if constexpr (c.scaling == Scaling::computed) {
    float amax = 0;
    row.each([&](float(&x)[kVec], int i, int at) {
      row.apply(x, i, at, mean, scale, p.weight_bias);
#pragma unroll
      for (int j = 0; j < kVec; ++j) amax = tile::max_f32(amax, tile::abs_f32(x[j]));
    });
    const float out_scale = fp8_scale(over_row.max(amax), c.out_dtype, p.power_of_two);
    if (live && lane == 0) p.computed_scales[index] = out_scale;
    inverse = 1.f / out_scale;
  }
  row.each([&](float(&x)[kVec], int i, int at) {
    row.apply(x, i, at, mean, scale, p.weight_bias);
#pragma unroll
    for (int j = 0; j < kVec; ++j) x[j] = c.scaling == Scaling::none ? x[j] : x[j] * inverse;
    row.write(at, x);
  });
}

}  // namespace quire::kernels
