// Index of each row's largest element, the lowest of equals.
//
// Grid:   one block a row
// Block:  c.threads
// Smem:   8 bytes a warp
// Output: ids; -1 for a row with a NaN
// Needs:  any GPU
#pragma once

#include "sampling/block_reduce.h"
#include "sampling/row_reader.h"
#include "sampling/sampling_types.h"

namespace quire::kernels {

// Orders as the pair (value, -index): sign-magnitude floats become unsigned integers, -0 equals 0.
inline u64 argmax_key(float value, i32 index) {
  const u32 bits = tile::float_bits(value + 0.f);
  const u32 ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return join_words(ordered, ~static_cast<u32>(index));
}

struct Largest {
  i32 index;  // -1: the row has a NaN
  bool is_negative_infinity;
};

// Every thread of the block gets the result.
template <LogitsConfig c>
inline Largest block_argmax(const tile::storage_t<c.dtype>* row, i32 vocab, u64* scratch) {
  constexpr u64 kNan = ~0ull;  // above every number's key
  u64 best = 0;
  for_each_element<c.vec_elems>(row, 0, vocab, tile::thread_index(), c.threads,
                                [&](i32 index, float x) {
                                  const u64 key = tile::is_nan(x) ? kNan : argmax_key(x, index);
                                  best = tile::max_of(best, key);
                                });
  best = block_max<c.threads>(best, scratch);
  if (best == kNan) return {-1, false};
  const u64 lowest = argmax_key(tile::kNegInf, 0);
  return {static_cast<i32>(~static_cast<u32>(best)), best >> 32 == lowest >> 32};
}

template <LogitsConfig c>
void argmax(const ArgmaxParams& p) {
  using T = tile::storage_t<c.dtype>;
  const i64 row = tile::block_index();
  const T* logits = static_cast<const T*>(p.logits) + row * p.logits_stride;
  const Largest largest =
      block_argmax<c>(logits, p.vocab, reinterpret_cast<u64*>(tile::shared_memory()));
  if (tile::thread_index() == 0) p.ids[row * p.ids_stride] = largest.index;
}

}  // namespace quire::kernels
