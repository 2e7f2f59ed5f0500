// The logits processors, and one token a row drawn from what they leave.
//
// Grid:   one block a row
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes, where the biases lie before the searches
// Output: processed logits, which may be the logits; what the sampler writes
// Needs:  any GPU
//
// The pass that processes a row is the sampler's first one: it finds the largest logit and keeps
// the row where there is room. The passes after it read what this block has written, mostly from
// the L2 cache.
#pragma once

#include "logits_processors/process_logits.h"
#include "sampling/sample.cuh"

namespace quire::kernels {

// Instead of ClusterRow::read(), over the logits before they are processed.
template <RowConfig c>
inline void read_processed(const LogitsProcessorsParams& p, ClusterRow<c>& row, i64 row_index) {
  using T = tile::storage_t<c.dtype>;
  constexpr i32 kPiece = kSearchBytes / sizeof(float);  // elements whose biases there is room for
  const T* logits = static_cast<const T*>(p.in.data) + row_index * p.in.stride;
  T* out = static_cast<T*>(p.out) + row_index * p.out_stride;
  float* biases = p.num_biases == 0 ? nullptr : reinterpret_cast<float*>(&row.search());
  const LogitsPenalties penalised(p, row_index);
  u32 mine = 0;
  const i32 step = biases != nullptr ? kPiece : p.in.vocab;
  for (i32 begin = 0; begin < p.in.vocab; begin += step) {
    const i32 end = tile::min_of(begin + step, p.in.vocab);
    if (biases != nullptr) gather_biases<c.threads>(p, row_index, begin, end, biases);
    for (i32 at = begin + tile::thread_index() * c.vec_elems; at < end;
         at += c.threads * c.vec_elems) {
      float x[c.vec_elems];
      tile::load<c.vec_elems>(x, logits + at);
      process_logits(p, penalised, row_index, at,
                     biases != nullptr ? biases + (at - begin) : nullptr, x);
      tile::store<c.vec_elems>(out + at, x);
      u32 words[c.vec_elems];
#pragma unroll
      for (int i = 0; i < c.vec_elems; ++i) {
        // As it is stored, so that the token is that of the sampler by itself.
        words[i] = tile::float_bits(tile::to_float(tile::from_float<T>(x[i])));
        mine = tile::max_of(mine, ordered_key(words[i]));
      }
      if constexpr (c.held) row.put_words(at, words);
    }
    if (biases != nullptr) tile::sync_block();  // before the next piece's take their place
  }
  row.largest = static_cast<u32>(block_max<c.threads>(u64{mine}, row.memory.warp_sums));
}

template <RowConfig c>
void sample_processed(const SampleProcessedParams& p) {
  static_assert(c.cluster == 1 && c.keys == RowKeys::weights);
  const i64 row_index = tile::block_index();
  ClusterRow<c> row(p.processors.out, row_index * p.processors.out_stride, p.processors.in.vocab,
                    kSearchBytes);
  sample_row(p.sample, row, /*is_row=*/true, /*may_stream=*/false,
             [&] { read_processed(p.processors, row, row_index); });
}

}  // namespace quire::kernels
