// out[i] = table[indices[i]], rows of bytes.
//
// Grid:   any number of blocks; block b takes output rows b, b + grid …
// Block:  c.threads, over the words of a row
// Smem:   none
// Output: out; a row of zero bytes for an index outside the table
// Needs:  any GPU
#pragma once

#include "embedding/embedding_types.h"
#include "tile/word.h"

namespace quire::kernels {

template <GatherRowsConfig c>
void gather_rows(const GatherRowsParams& p) {
  using Word = tile::word_t<c.word_bytes>;
  const i64 num_words = p.row_bytes / c.word_bytes;
  for (i64 i = tile::block_index(); i < p.num_indices; i += tile::num_blocks()) {
    const i64 row = p.indices[i * p.index_stride];
    const bool inside = row >= 0 && row < p.table_rows;
    const u8* src = static_cast<const u8*>(p.table) + (inside ? row * p.table_stride_bytes : 0);
    u8* dst = static_cast<u8*>(p.out) + i * p.out_stride_bytes;
    for (i64 word = tile::thread_index(); word < num_words; word += c.threads) {
      reinterpret_cast<Word*>(dst)[word] =
          inside ? reinterpret_cast<const Word*>(src)[word] : Word{};
    }
  }
}

}  // namespace quire::kernels
