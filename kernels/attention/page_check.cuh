// Checked mode: finds the first page id that points outside the pool.
//
// Grid:   any number of thread blocks.
// Block:  threads of the config.
// Smem:   none.
// Output: *first_bad = min(*first_bad, index of a bad entry).
// Needs:  *first_bad set to INT_MAX before.
#pragma once

#include "attention/page_check_types.h"
#include "tile/atomic.h"

namespace quire::kernels {

template <PageCheckConfig c>
inline void page_check(const PageCheckParams& p) {
  const int step = tile::num_blocks() * c.threads;
  for (i64 i = tile::block_index() * c.threads + tile::thread_index(); i < p.num_indices;
       i += step) {
    if (static_cast<u32>(p.indices[i]) >= static_cast<u32>(p.num_pages)) {
      tile::atomic_min(p.first_bad, static_cast<int>(i));
      return;
    }
  }
}

}  // namespace quire::kernels
