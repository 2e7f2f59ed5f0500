// out = log(softmax(logits / temperature)[ids]), row by row.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes
// Output: out. NaN for an id outside the vocabulary and a row that has no distribution
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/exponential_sum.h"
#include "sampling/sampling_types.h"

namespace quire::kernels {

template <RowConfig c>
void token_log_probs(const TokenLogProbsParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  ClusterRow<c> row(p.in.data, row_index * p.in.stride, p.in.vocab);
  const float temperature = p.temperature.at(row_index);
  const bool is_greedy = temperature == 0.f;
  // Of the row: log_prob = x * scale - log_total where x is relative to the largest logit.
  float largest = 0.f, log_total = tile::float_from_bits(0x7fc00000u);
  i32 best = -1;
  if (is_greedy) {
    best = greedy_token(row);
    if (best >= 0) log_total = 0.f;
  } else if (is_temperature(temperature)) {
    const ExponentialSum all = sum_exponentials(row, weight_scale(temperature));
    largest = all.largest;
    if (all.sum > 0.f) log_total = tile::log_f32(all.sum);
  }
  if (row.is_leader()) {
    constexpr float kLn2 = 0.693147180559945f;
    const float scale = weight_scale(temperature) * kLn2;
    const i32* ids = p.ids + row_index * p.ids_stride;
    float* out = p.out + row_index * p.out_stride;
    for (i32 i = tile::thread_index(); i < p.tokens; i += c.threads) {
      const i32 id = ids[i];
      float result = tile::float_from_bits(0x7fc00000u);
      if (id >= 0 && id < p.in.vocab) {
        const float relative = is_greedy ? (id == best ? 0.f : tile::kNegInf)
                                         : (tile::to_float(row.data[id]) - largest) * scale;
        result = relative - log_total;
      }
      out[i] = result;
    }
  }
  row.finish();
}

}  // namespace quire::kernels
