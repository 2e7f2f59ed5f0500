// The index arrays of an append: (request, position) of every token, and sequence lengths.
//
// Grid:   any number of blocks; the threads of the grid take elements in turn
// Block:  c.threads
// Smem:   none
// Output: every element of batch_indices and positions, or of seq_lens
// Needs:  any GPU
#pragma once

#include "append/append_types.h"
#include "tile/thread.h"

namespace quire::kernels {

template <IndexConfig c>
void batch_indices_positions(const BatchIndicesParams& p) {
  const i64 step = static_cast<i64>(tile::num_blocks()) * c.threads;
  for (i64 i = static_cast<i64>(tile::block_index()) * c.threads + tile::thread_index(); i < p.nnz;
       i += step) {
    write_batch_index(p, i);
  }
}

template <IndexConfig c>
void seq_lens(const SeqLensParams& p) {
  const i64 step = static_cast<i64>(tile::num_blocks()) * c.threads;
  for (i64 r = static_cast<i64>(tile::block_index()) * c.threads + tile::thread_index();
       r < p.batch_size; r += step) {
    write_seq_len(p, r);
  }
}

}  // namespace quire::kernels
