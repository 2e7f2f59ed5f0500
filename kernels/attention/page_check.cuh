// Checked mode: finds the first page id that points outside the pool, of pages that hold tokens.
//
// Grid:   any number of thread blocks.
// Block:  threads of the config.
// Smem:   none.
// Output: *first_bad = min(*first_bad, index of a bad entry).
// Needs:  *first_bad set to INT_MAX before.
#pragma once

#include "attention/page_check_types.h"
#include "tile/atomic.h"
#include "tile/math.h"

namespace quire::kernels {

template <PageCheckConfig c>
inline void page_check(const PageCheckParams& p) {
  for (int r = tile::block_index(); r < p.batch_size; r += tile::num_blocks()) {
    const i64 begin = tile::max_of(p.kv_indptr[r], 0);
    const i64 pages = (static_cast<i64>(p.kv_lens[r]) + p.page_size - 1) / p.page_size;
    const i64 end = tile::min_of<i64>(begin + pages, p.num_indices);
    for (i64 i = begin + tile::thread_index(); i < end; i += c.threads) {
      if (static_cast<u32>(p.indices[i]) >= static_cast<u32>(p.num_pages)) {
        tile::atomic_min(p.first_bad, static_cast<int>(i));
        break;
      }
    }
  }
}

}  // namespace quire::kernels
