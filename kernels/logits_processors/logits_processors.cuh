// Logit bias, penalties, temperature and grammar mask in one pass over the logits.
//
// Grid:   (pieces of a row, rows)
// Block:  c.threads
// Smem:   with biases 4 bytes an element of a piece: the biases of this piece
// Output: out, which may be the logits
// Needs:  any GPU
#pragma once

#include "logits_processors/logits_processors_types.h"
#include "tile/atomic.h"
#include "tile/vec.h"

namespace quire::kernels {

// The row's biases that fall on [begin, end), in shared memory.
template <LogitsProcessorsConfig c>
inline void gather_biases(const LogitsProcessorsParams& p, i64 row, i32 begin, i32 end,
                          float* biases) {
  for (i32 i = tile::thread_index(); i < end - begin; i += c.threads) biases[i] = 0.f;
  tile::sync_block();
  for (i32 j = tile::thread_index(); j < p.num_biases; j += c.threads) {
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

template <LogitsProcessorsConfig c>
void logits_processors(const LogitsProcessorsParams& p) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kVec = c.vec_elems;
  using Counts = tile::Vec<i32, (kVec < 4 ? kVec : 4)>;
  const i64 row = tile::block_index_y();
  const i32 begin = tile::block_index() * processed_piece(c);
  const i32 end = tile::min_of(begin + processed_piece(c), p.in.vocab);
  float* biases = reinterpret_cast<float*>(tile::shared_memory());
  if constexpr (c.has_bias) gather_biases<c>(p, row, begin, end, biases);
  const T* logits = static_cast<const T*>(p.in.data) + row * p.in.stride;
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  const LogitsPenalties penalised(p, row);
  for (i32 at = begin + tile::thread_index() * kVec; at < end; at += c.threads * kVec) {
    float x[kVec];
    tile::load<kVec>(x, logits + at);
    i32 counts[kVec] = {};
    if (p.output_counts != nullptr) {
      const i32* from = p.output_counts + row * p.output_counts_stride + at;
#pragma unroll
      for (int v = 0; v < kVec; v += sizeof(Counts) / 4) {
        const Counts some = *reinterpret_cast<const Counts*>(from + v);
#pragma unroll
        for (int i = 0; i < static_cast<int>(sizeof(Counts) / 4); ++i) counts[v + i] = some.data[i];
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
    for (int i = 0; i < kVec; ++i) {
      if constexpr (c.has_bias) x[i] += biases[at - begin + i];
      x[i] = penalised(x[i], (in_prompt >> i & 1) != 0, counts[i]);
      if ((allowed >> i & 1) == 0) x[i] = tile::kNegInf;
    }
    tile::store<kVec>(out + at, x);
  }
}

}  // namespace quire::kernels
