// Softmax over KV tokens that arrive step by step (Milakov & Gimelshein 2018,
// https://arxiv.org/abs/1805.02867), for two rows a thread: those of an mma.m16n8k16 accumulator.
#pragma once

#include "tile/warp.h"

namespace quire::kernels {

// The state of rows g and g + 8. Maxima are of raw scores; `scale` brings a score to base 2.
struct OnlineSoftmax {
  float row_max[2] = {tile::kNegInf, tile::kNegInf};
  float row_sum[2] = {0.f, 0.f};  // this thread's columns only, until finish()

  // Turns scores into probabilities relative to the new maxima; returns what old sums and outputs
  // must be multiplied with. A row that has seen nothing keeps maximum -inf and probabilities 0.
  template <int n>
  void update(float (&score)[n][4], float scale, float (&correction)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float m = row_max[half];
#pragma unroll
      for (int i = 0; i < n; ++i) {
        m = tile::max_f32(m, tile::max_f32(score[i][2 * half], score[i][2 * half + 1]));
      }
      m = tile::warp::max<4>(m);
      const float offset = m == tile::kNegInf ? 0.f : m * scale;
      correction[half] = tile::exp2_approx(tile::fma_f32(row_max[half], scale, -offset));
      row_max[half] = m;
      float sum = row_sum[half] * correction[half];
#pragma unroll
      for (int i = 0; i < n; ++i) {
#pragma unroll
        for (int j = 2 * half; j < 2 * half + 2; ++j) {
          score[i][j] = tile::exp2_approx(tile::fma_f32(score[i][j], scale, -offset));
          sum += score[i][j];
        }
      }
      row_sum[half] = sum;
    }
  }

  // Sums over the four threads of a row.
  void finish() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      row_sum[half] += tile::warp::shuffle_xor(row_sum[half], 1);
      row_sum[half] += tile::warp::shuffle_xor(row_sum[half], 2);
    }
  }
};

// The state (o, lse) after a sink joins the softmax: a logit without a value. lse in base 2.
struct SinkedState {
  float lse;
  float o_scale;
};
inline SinkedState add_sink(float lse, float sink) {
  const float s = sink * tile::kLog2e;
  const float m = tile::max_f32(lse, s);
  if (m == tile::kNegInf) return {m, 1.f};
  const float total = m + tile::log2_approx(tile::exp2_approx(lse - m) + tile::exp2_approx(s - m));
  return {total, tile::exp2_approx(lse - total)};
}

}  // namespace quire::kernels
