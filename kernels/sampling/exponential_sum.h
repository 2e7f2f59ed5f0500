// What softmax and log-probabilities find out about a row of logits: the sum of exponentials, and
// at temperature 0 the largest logit.
#pragma once

#include "sampling/cluster_row.h"

namespace quire::kernels {

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

constexpr i32 kNoDistribution = -2;

// The lowest index of the largest logit; -1 where all are -inf, kNoDistribution with a NaN.
template <RowConfig c>
inline i32 greedy_token(ClusterRow<c>& row) {
  const u32 key = row.read();
  if (key == kNanKey) return kNoDistribution;
  const float largest = tile::float_from_bits(bits_of_key(key));
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
  return largest == tile::kNegInf ? -1 : static_cast<i32>(~static_cast<u32>(best));
}

}  // namespace quire::kernels
