// Grid: clusters of c.n blocks. Block: any. Smem: 4 bytes a thread. Output: as said at each kernel.
#pragma once

#include "primitive_types.h"
#include "tile/atomic.h"
#include "tile/cluster.h"

namespace quire::kernels {

// out [num_blocks, num_threads]: what the same thread of the next block of the cluster wrote, plus
// the number of threads that added themselves to a counter in the cluster's first block.
template <PrimitiveConfig c>
void pass_around_cluster(const PrimitiveParams& p) {
  i32* slots = reinterpret_cast<i32*>(tile::shared_memory());
  const int thread = tile::thread_index();
  const int rank = tile::block_index() % c.n;
  i32* counter = slots + tile::num_threads();
  if (thread == 0) *counter = 0;
  slots[thread] = 1000 * tile::block_index() + thread;
  tile::cluster::sync_own_shared();
  const int got = tile::cluster::shared_of(slots, (rank + 1) % c.n)[thread];
  tile::atomic_add(tile::cluster::shared_of(counter, 0), 1);
  tile::cluster::sync();
  const int total = *tile::cluster::shared_of(counter, 0);
  tile::cluster::sync();
  static_cast<i32*>(p.out)[tile::block_index() * tile::num_threads() + thread] =
      got + 100000 * total;
}

}  // namespace quire::kernels
