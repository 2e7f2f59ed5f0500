// Truth values to bits, eight a byte, of one array or of segments that each begin a byte.
//
// Grid:   any number of blocks; the threads of the grid take bytes in turn
// Block:  c.threads
// Smem:   none
// Output: every byte of out
// Needs:  any GPU
#pragma once

#include "quantize/quantize_types.h"
#include "tile/thread.h"

namespace quire::kernels {

template <PackConfig c>
void packbits(const PackParams& p) {
  const i64 step = static_cast<i64>(tile::num_blocks()) * c.threads;
  for (i64 at = static_cast<i64>(tile::block_index()) * c.threads + tile::thread_index();
       at < p.num_bytes; at += step) {
    p.out[at] = packed_byte(p, at, c.big_endian);
  }
}

}  // namespace quire::kernels
