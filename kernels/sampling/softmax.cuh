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
inline void greedy_row(ClusterRow<c>& row, float* probs) {
  const u32 key = row.read();
  const float largest = tile::float_from_bits(bits_of_key(key));
  if (key == kNanKey) {
    return write_probs(row, probs, [](i32, float) { return tile::float_from_bits(0x7fc00000u); });
  }
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
  const i32 index = largest == tile::kNegInf ? -1 : static_cast<i32>(~static_cast<u32>(best));
  write_probs(row, probs, [&](i32 i, float) { return i == index ? 1.f : 0.f; });
}

// A sum of exponentials of numbers of which none is above `largest`, over that of `largest`.
struct ExponentialSum {
  // Not -inf, from which that could not be subtracted.
  static constexpr float kLeast = -3.402823466e38f;
  float largest = kLeast;
  float sum = 0.f;

  void raise(float to, float scale) {
    sum *= tile::exp2_approx((largest - to) * scale);
    largest = to;
  }
  void add(const ExponentialSum& other, float scale) {
    const float to = tile::max_f32(largest, other.largest);
    const float theirs = other.sum * tile::exp2_approx((other.largest - to) * scale);
    raise(to, scale);
    sum += theirs;
  }
  u64 bits() const { return join_words(tile::float_bits(largest), tile::float_bits(sum)); }
  static ExponentialSum of_bits(u64 x) {
    return {tile::float_from_bits(static_cast<u32>(x >> 32)),
            tile::float_from_bits(static_cast<u32>(x))};
  }
};

// Over the row's logits, which a block keeps as it reads them. In one order, so that a row's result
// does not depend on the others. NaN and +inf make the sum NaN.
template <RowConfig c>
inline ExponentialSum sum_exponentials(ClusterRow<c>& row, float scale) {
  ExponentialSum mine;
  for_each_access<c.vec_elems>(row.data, row.begin, row.end, tile::thread_index(), c.threads,
                               [&](i32 at, const float(&x)[c.vec_elems]) {
                                 float largest = x[0];
#pragma unroll
                                 for (int i = 1; i < c.vec_elems; ++i)
                                   largest = tile::max_f32(largest, x[i]);
                                 if (largest > mine.largest) mine.raise(largest, scale);
#pragma unroll
                                 for (int i = 0; i < c.vec_elems; ++i) {
                                   mine.sum += tile::exp2_approx((x[i] - mine.largest) * scale);
                                 }
                                 if constexpr (c.held) {
                                   u32 words[c.vec_elems];
#pragma unroll
                                   for (int i = 0; i < c.vec_elems; ++i)
                                     words[i] = tile::float_bits(x[i]);
                                   row.put_words(at, words);
                                 }
                               });
#pragma unroll
  for (int m = 16; m > 0; m /= 2) {
    mine.add(ExponentialSum::of_bits(warp_shuffle_xor(mine.bits(), m)), scale);
  }
  u64* of_warps = row.memory.warp_sums;
  share_across_warps(mine.bits(), of_warps, 0);
  mine = ExponentialSum::of_bits(of_warps[0]);
#pragma unroll 4
  for (int w = 1; w < c.threads / 32; ++w) mine.add(ExponentialSum::of_bits(of_warps[w]), scale);
  if constexpr (c.cluster > 1) {
    mine = ExponentialSum::of_bits(row.exchange(mine.bits()));
#pragma unroll
    for (int m = c.cluster / 2; m > 0; m /= 2) {
      mine.add(ExponentialSum::of_bits(warp_shuffle_xor(mine.bits(), m)), scale);
    }
  }
  return mine;
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
