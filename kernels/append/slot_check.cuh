// Checked mode: finds the first row of an append that leads outside the pages.
//
// Grid:   any number of blocks; the threads of the grid take rows in turn
// Block:  c.threads
// Smem:   none
// Output: *first_bad = min(*first_bad, a bad row)
// Needs:  *first_bad set to the largest i32 before; any GPU
#pragma once

#include "append/append_types.h"
#include "tile/atomic.h"

namespace quire::kernels {

template <IndexConfig c>
void slot_check(const SlotCheckParams& p) {
  const i64 step = static_cast<i64>(tile::num_blocks()) * c.threads;
  for (i64 row = static_cast<i64>(tile::block_index()) * c.threads + tile::thread_index();
       row < p.slots.nnz; row += step) {
    if (is_padding(p.slots, row) || find_page_slot(p.slots, row).page >= 0) continue;
    tile::atomic_min(p.first_bad, static_cast<i32>(row));
    return;
  }
}

}  // namespace quire::kernels
