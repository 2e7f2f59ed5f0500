// Speculative sampling of draft trees: follows the tokens that were drawn after each node.
//
// Grid:   one thread a request
// Block:  c.threads
// Smem:   none
// Output: ids, path, accepted
// Needs:  any GPU
#pragma once

#include "speculative/speculative_types.h"
#include "tile/thread.h"

namespace quire::kernels {

template <TreeConfig c>
void verify_tree(const TreeParams& p) {
  const i64 request = static_cast<i64>(tile::block_index()) * c.threads + tile::thread_index();
  if (request < p.batch) walk_tree(p, request);
}

}  // namespace quire::kernels
