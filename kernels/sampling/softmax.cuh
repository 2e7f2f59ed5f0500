// probs = softmax(logits / temperature), row by row.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes
// Output: probs. NaN for a row with a NaN, a +inf (but temperature 0) or a bad temperature; 0 for a
//         row of -inf
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/exponential_sum.h"
#include "sampling/sampling_types.h"

namespace quire::kernels {

// value(index, word): word is the logit's bits, or what change_words() has made of them.
template <RowConfig c, class Value>
inline void write_probs(const ClusterRow<c>& row, float* probs, Value&& value) {
  for (i32 at = row.begin + tile::thread_index() * c.vec_elems; at < row.end;
       at += c.threads * c.vec_elems) {
    float x[c.vec_elems];
    if constexpr (!c.held) tile::load<c.vec_elems>(x, row.data + at);
    constexpr int kStore = c.vec_elems < 4 ? c.vec_elems : 4;
#pragma unroll
    for (int v = 0; v < c.vec_elems; v += kStore) {
      float y[kStore];
      if constexpr (c.held) {
        const auto words = *row.words_at(at + v);
#pragma unroll
        for (int i = 0; i < kStore; ++i) x[v + i] = tile::float_from_bits(words.data[i]);
      }
#pragma unroll
      for (int i = 0; i < kStore; ++i) y[i] = value(at + v + i, x[v + i]);
      tile::store<kStore>(probs + at + v, y);
    }
  }
}

// Temperature 0: all mass on the largest logit.
template <RowConfig c>
inline void greedy_row(ClusterRow<c>& row, float* probs) {
  const i32 token = greedy_token(row);
  if (token == kNoDistribution) {
    return write_probs(row, probs, [](i32, float) { return tile::float_from_bits(0x7fc00000u); });
  }
  write_probs(row, probs, [&](i32 i, float) { return i == token ? 1.f : 0.f; });
}

template <RowConfig c>
inline void softmax_row(ClusterRow<c>& row, float* probs, float scale) {
  const ExponentialSum all = sum_exponentials(row, scale);
  // Of a row of -inf the sum is 0, and so are all exponentials.
  const float inverse = all.sum == 0.f ? 0.f : 1.f / all.sum;
  write_probs(row, probs,
              [&](i32, float x) { return tile::exp2_approx((x - all.largest) * scale) * inverse; });
}

template <RowConfig c>
void softmax(const SoftmaxParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  ClusterRow<c> row(p.in.data, row_index * p.in.stride, p.in.vocab);
  float* probs = p.probs + row_index * p.probs_stride;
  const float temperature = p.temperature.at(row_index);
  if (!is_temperature(temperature)) {
    write_probs(row, probs, [](i32, float) { return tile::float_from_bits(0x7fc00000u); });
  } else if (temperature == 0.f) {
    greedy_row(row, probs);
  } else {
    softmax_row(row, probs, weight_scale(temperature));
  }
  row.finish();
}

}  // namespace quire::kernels
