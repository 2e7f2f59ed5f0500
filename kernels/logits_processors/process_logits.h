// The logits processors on one access of a row. GPU and emulator.
#pragma once

#include "logits_processors/logits_processors_types.h"
#include "tile/atomic.h"
#include "tile/vec.h"

namespace quire::kernels {

// The row's biases that fall on [begin, end), in shared memory.
template <int threads>
inline void gather_biases(const LogitsProcessorsParams& p, i64 row, i32 begin, i32 end,
                          float* biases) {
  for (i32 i = tile::thread_index(); i < end - begin; i += threads) biases[i] = 0.f;
  tile::sync_block();
  for (i32 j = tile::thread_index(); j < p.num_biases; j += threads) {
    const i32 id = p.bias_ids[row * p.bias_ids_stride + j];
    if (id < begin || id >= end) continue;
    tile::atomic_add(&biases[id - begin], p.bias_values[row * p.bias_values_stride + j]);
  }
  tile::sync_block();
}

// Bits [first, first + vec_elems) of a packed row, as the lowest ones.
inline u32 mask_bits(const u32* mask, i64 first_word, i32 first) {
  return mask[first_word + first / 32] >> (first % 32);
}

// x: the row's logits from `at` on; biases: those of the same tokens, or null.
template <int vec_elems>
inline void process_logits(const LogitsProcessorsParams& p, const LogitsPenalties& penalties,
                           i64 row, i32 at, const float* biases, float (&x)[vec_elems]) {
  using Counts = tile::Vec<i32, (vec_elems < 4 ? vec_elems : 4)>;
  constexpr int kCounts = sizeof(Counts) / 4;
  const i32* counts =
      p.output_counts == nullptr ? nullptr : p.output_counts + row * p.output_counts_stride + at;
  u32 seen = 0, allowed = 0xffffffffu;  // a bit a token
  if (p.prompt_mask != nullptr) {
    seen = mask_bits(p.prompt_mask, row * p.prompt_mask_stride, at) & ((1u << vec_elems) - 1);
  }
  if (p.allowed_mask != nullptr) {
    allowed = mask_bits(p.allowed_mask, row * p.allowed_mask_stride, at);
  }
  if (counts != nullptr) {
#pragma unroll
    for (int v = 0; v < vec_elems; v += kCounts) {
      const Counts some = *reinterpret_cast<const Counts*>(counts + v);
#pragma unroll
      for (int i = 0; i < kCounts; ++i) seen |= some.data[i] > 0 ? 1u << (v + i) : 0;
    }
  }
  if (biases != nullptr) {
#pragma unroll
    for (int i = 0; i < vec_elems; ++i) x[i] += biases[i];
  }
  // Few tokens have been seen: one after the other these take fewer instructions than all do.
  while (seen != 0) {
    int i = 0;
    float value = 0.f;
#pragma unroll
    for (int j = 0; j < vec_elems; ++j) {
      if ((seen >> j & 1) == 0) continue;
      value = x[j];
      i = j;
    }
    seen ^= 1u << i;
    value = penalties.of_seen(value, counts == nullptr ? 0 : counts[i]);
#pragma unroll
    for (int j = 0; j < vec_elems; ++j) x[j] = i == j ? value : x[j];
  }
#pragma unroll
  for (int i = 0; i < vec_elems; ++i) {
    x[i] = (allowed >> i & 1) != 0 ? penalties.tempered(x[i]) : tile::kNegInf;
  }
}

}  // namespace quire::kernels
