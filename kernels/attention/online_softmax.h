// Softmax over KV tokens that arrive step by step (Milakov & Gimelshein 2018,
// https://arxiv.org/abs/1805.02867), for the two rows that a thread has (attention/score_place.h).
#pragma once

#include "attention/score_place.h"

namespace quire::kernels {

// The state of a thread's two rows. Maxima are of raw scores; `scale` brings a score to base 2.
struct OnlineSoftmax {
  float row_max[2] = {tile::kNegInf, tile::kNegInf};
  float row_sum[2] = {0.f, 0.f};  // this thread's tokens only, until finish()

  // Turns scores into probabilities relative to the new maxima; returns what old sums and outputs
  // must be multiplied with. A row that has seen nothing keeps maximum -inf and probabilities 0.
  template <class Place = RowMajorScores, class Score>
  void update(Score& score, float scale, float (&correction)[2]) {
    constexpr int kTokens = sizeof(Score) / sizeof(float) / 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float m = row_max[half];
#pragma unroll
      for (int k = 0; k < kTokens; k += 2) {
        m = tile::max_f32(m,
                          tile::max_f32(Place::at(score, k, half), Place::at(score, k + 1, half)));
      }
      m = Place::max(m);
      const float offset = m == tile::kNegInf ? 0.f : m * scale;
      correction[half] = tile::exp2_approx(tile::fma_f32(row_max[half], scale, -offset));
      row_max[half] = m;
      float sum = row_sum[half] * correction[half];
#pragma unroll
      for (int k = 0; k < kTokens; ++k) {
        float& x = Place::at(score, k, half);
        x = tile::exp2_approx(tile::fma_f32(x, scale, -offset));
        sum += x;
      }
      row_sum[half] = sum;
    }
  }

  // Sums over the threads of a row.
  template <class Place = RowMajorScores>
  void finish() {
#pragma unroll
    for (int half = 0; half < 2; ++half) row_sum[half] = Place::sum(row_sum[half]);
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
