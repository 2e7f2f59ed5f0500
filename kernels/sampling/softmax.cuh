// probs = softmax(logits / temperature), row by row.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes
// Output: probs. NaN for a row with a NaN, a +inf (but temperature 0) or a bad temperature; 0 for a
//         row of -inf
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/cluster_row.h"
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

// Temperature 0: all mass on the largest logit, the lowest index of equals.
template <RowConfig c>
inline void greedy_row(ClusterRow<c>& row, float* probs, float largest) {
  u64 best = 0;
  for (i32 i = row.begin + tile::thread_index(); i < row.end; i += c.threads) {
    float x;
    if constexpr (c.held) {
      x = tile::float_from_bits(row.keys[i - row.begin]);
    } else {
      x = tile::to_float(row.data[i]);
    }
    if (x == largest) best = tile::max_of(best, static_cast<u64>(~static_cast<u32>(i)));
  }
  best = row.cluster_max(block_max<c.threads>(best, row.memory.warp_sums));
  const i32 index = static_cast<i32>(~static_cast<u32>(best));
  write_probs(row, probs, [&](i32 i, float) { return i == index ? 1.f : 0.f; });
}

template <RowConfig c>
inline void softmax_row(ClusterRow<c>& row, float* probs, float largest, float scale) {
  const auto exponential = [&](float x) { return tile::exp2_approx((x - largest) * scale); };
  float mine = 0.f;
  if constexpr (c.held) {
    row.change_words([&](u32 word) {
      const float y = exponential(tile::float_from_bits(word));
      mine += y;
      return tile::float_bits(y);
    });
  } else {
    for_each_element<c.vec_elems, 2>(row.data, row.begin, row.end, tile::thread_index(), c.threads,
                                     [&](i32, float x) { mine += exponential(x); });
  }
  float* scratch = reinterpret_cast<float*>(row.memory.warp_sums);
  const float sum = row.cluster_sum(block_sum<c.threads>(mine, scratch));
  const float inverse = 1.f / sum;
  write_probs(row, probs, [&](i32, float x) {
    if constexpr (c.held) return x * inverse;
    return exponential(x) * inverse;
  });
}

template <RowConfig c>
void softmax(const SoftmaxParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  ClusterRow<c> row(p.in.data, row_index * p.in.stride, p.in.vocab);
  float* probs = p.probs + row_index * p.probs_stride;
  const float temperature = p.temperature.at(row_index);
  const u32 key = row.read();
  const float largest = tile::float_from_bits(bits_of_key(key));
  const bool undefined = largest == tile::kInfinity && temperature != 0.f;
  if (!is_temperature(temperature) || key == kNanKey || undefined) {
    write_probs(row, probs, [](i32, float) { return tile::float_from_bits(0x7fc00000u); });
  } else if (largest == tile::kNegInf) {
    write_probs(row, probs, [](i32, float) { return 0.f; });
  } else if (temperature == 0.f) {
    greedy_row(row, probs, largest);
  } else {
    softmax_row(row, probs, largest, weight_scale(temperature));
  }
  row.finish();
}

}  // namespace quire::kernels
