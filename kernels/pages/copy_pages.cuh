// Copies whole pages.
//
// Grid:   x: any number of blocks, block b takes entries b, b + grid …; y: the shares of a page, in
// every pool Block:  c.threads, over the words of a page Smem:   none Output: the pages that dst
// names; entries that lead outside are skipped Needs:  any GPU
#pragma once

#include "pages/pages_types.h"
#include "tile/word.h"

namespace quire::kernels {

template <PageCopyConfig c>
void copy_pages(const PageCopyParams& p) {
  using Index = tile::storage_t<c.index_dtype>;
  using Word = tile::word_t<c.word_bytes>;
  const int words_per_row = p.row_bytes / c.word_bytes;
  const i64 num_words = static_cast<i64>(p.rows) * words_per_row;
  const i64 step = static_cast<i64>(p.shares) * c.threads;
  const int share = tile::block_index_y() % p.shares;
  const i64 pool = p.pool_offsets[tile::block_index_y() / p.shares];
  for (i64 entry = tile::block_index(); entry < p.num_copies; entry += tile::num_blocks()) {
    const i64 src = page_of<Index>(p.src, p.src_stride, entry, p.from_pages);
    const i64 dst = page_of<Index>(p.dst, p.dst_stride, entry, p.to_pages);
    if (src < 0 || dst < 0) continue;
    const u8* from = static_cast<const u8*>(p.from) + pool + src * p.from_page_stride;
    u8* to = static_cast<u8*>(p.to) + pool + dst * p.to_page_stride;
#pragma unroll 4
    for (i64 i = static_cast<i64>(share) * c.threads + tile::thread_index(); i < num_words;
         i += step) {
      const i32 row = static_cast<i32>(i / words_per_row);
      const i64 offset = (i - static_cast<i64>(row) * words_per_row) * c.word_bytes;
      const PageRow at = find_page_row(p, row);
      *reinterpret_cast<Word*>(to + at.to + offset) =
          *reinterpret_cast<const Word*>(from + at.from + offset);
    }
  }
}

}  // namespace quire::kernels
