// Logit bias, penalties, temperature and grammar mask in one pass over the logits.
//
// Grid:   (pieces of a row, rows)
// Block:  c.threads
// Smem:   with biases 4 bytes an element of a piece: the biases of this piece
// Output: out, which may be the logits
// Needs:  any GPU
#pragma once

#include "logits_processors/process_logits.h"

namespace quire::kernels {

template <LogitsProcessorsConfig c>
void logits_processors(const LogitsProcessorsParams& p) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kVec = c.vec_elems;
  const i64 row = tile::block_index_y();
  const i32 begin = tile::block_index() * processed_piece(c);
  const i32 end = tile::min_of(begin + processed_piece(c), p.in.vocab);
  float* biases = reinterpret_cast<float*>(tile::shared_memory());
  if constexpr (c.has_bias) gather_biases<c.threads>(p, row, begin, end, biases);
  const T* logits = static_cast<const T*>(p.in.data) + row * p.in.stride;
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  const LogitsPenalties penalties(p, row);
  for (i32 at = begin + tile::thread_index() * kVec; at < end; at += c.threads * kVec) {
    float x[kVec];
    tile::load<kVec>(x, logits + at);
    process_logits(p, penalties, row, at, c.has_bias ? biases + (at - begin) : nullptr, x);
    tile::store<kVec>(out + at, x);
  }
}

}  // namespace quire::kernels
