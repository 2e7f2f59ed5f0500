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
inline void process_logits(const LogitsProcessorsParams& p, const LogitsPenalties& penalised,
                           i64 row, i32 at, const float* biases, float (&x)[vec_elems]) {
  using Counts = tile::Vec<i32, (vec_elems < 4 ? vec_elems : 4)>;
  constexpr int kCounts = sizeof(Counts) / 4;
  i32 counts[vec_elems] = {};
  if (p.output_counts != nullptr) {
    const i32* from = p.output_counts + row * p.output_counts_stride + at;
#pragma unroll
    for (int v = 0; v < vec_elems; v += kCounts) {
      const Counts some = *reinterpret_cast<const Counts*>(from + v);
#pragma unroll
      for (int i = 0; i < kCounts; ++i) counts[v + i] = some.data[i];
    }
  }
  u32 in_prompt = 0, allowed = 0xffffffffu;
  if (p.prompt_mask != nullptr) {
    in_prompt = mask_bits(p.prompt_mask, row * p.prompt_mask_stride, at);
  }
  if (p.allowed_mask != nullptr) {
    allowed = mask_bits(p.allowed_mask, row * p.allowed_mask_stride, at);
  }
#pragma unroll
  for (int i = 0; i < vec_elems; ++i) {
    if (biases != nullptr) x[i] += biases[i];
    x[i] = penalised(x[i], (in_prompt >> i & 1) != 0, counts[i]);
    if ((allowed >> i & 1) == 0) x[i] = tile::kNegInf;
  }
}

}  // namespace quire::kernels
