// Copies new K and V rows to their pages.
//
// Grid:   any number of blocks; block b takes rows b, b + grid …
// Block:  c.threads, over the words of all heads of a row
// Smem:   none
// Output: the pools' slots that the rows name; rows that lead outside the table are skipped
// Needs:  any GPU
#pragma once

#include "append/append_types.h"
#include "tile/word.h"

namespace quire::kernels {

template <AppendConfig c>
inline void append_row(const AppendSide& side, i64 row, PageSlot to, i32 num_heads) {
  using Word = tile::word_t<c.word_bytes>;
  const u8* src = static_cast<const u8*>(side.rows) + row * side.row_stride_bytes;
  u8* dst = static_cast<u8*>(side.pool) + to.page * side.page_stride_bytes +
            to.slot * side.token_stride_bytes;
  const int words_per_head = side.head_bytes / c.word_bytes;
  for (int i = tile::thread_index(); i < num_heads * words_per_head; i += c.threads) {
    const int head = i / words_per_head;
    const int offset = (i - head * words_per_head) * c.word_bytes;
    *reinterpret_cast<Word*>(dst + head * side.head_stride_bytes + offset) =
        *reinterpret_cast<const Word*>(src + head * side.row_head_stride_bytes + offset);
  }
}

template <AppendConfig c>
void append_paged_kv(const AppendParams& p) {
  for (i64 row = tile::block_index(); row < p.nnz; row += tile::num_blocks()) {
    const PageSlot to = find_page_slot(p, row);
    if (to.page < 0) continue;
    append_row<c>(p.k, row, to, p.num_kv_heads);
    append_row<c>(p.v, row, to, p.num_kv_heads);
  }
}

}  // namespace quire::kernels
