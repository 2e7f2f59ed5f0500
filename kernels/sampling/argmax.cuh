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

template <ArgmaxConfig c>
void argmax(const ArgmaxParams& p) {
  using T = tile::storage_t<c.dtype>;
  const i64 row = tile::block_index();
  const T* logits = static_cast<const T*>(p.in.data) + row * p.in.stride;
  u64 best = 0;
  for_each_element<c.vec_elems>(
      logits, 0, p.in.vocab, tile::thread_index(), c.threads, [&](i32 index, float x) {
        const u32 key = ordered_key(tile::float_bits(x));
        best = tile::max_of(best, join_words(key, ~static_cast<u32>(index)));
      });
  best = block_max<c.threads>(best, reinterpret_cast<u64*>(tile::shared_memory()));
  if (tile::thread_index() != 0) return;
  p.ids[row * p.ids_stride] =
      best >> 32 == kNanKey ? -1 : static_cast<i32>(~static_cast<u32>(best));
}

}  // namespace quire::kernels
