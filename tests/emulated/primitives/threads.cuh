// Grid: any. Block: any. Smem: 4 bytes a thread. Output: out, as said at each kernel.
#pragma once

#include "primitive_types.h"
#include "tile/thread.h"

namespace quire::kernels {

// out [num_blocks_y, num_blocks, num_threads, 9]: what a thread sees of its place.
template <PrimitiveConfig c>
void thread_places(const PrimitiveParams& p) {
  const int block = tile::block_index_y() * tile::num_blocks() + tile::block_index();
  i32* out = static_cast<i32*>(p.out) + 9 * (block * tile::num_threads() + tile::thread_index());
  out[0] = tile::thread_index();
  out[1] = tile::lane_index();
  out[2] = tile::warp_index();
  out[3] = tile::num_threads();
  out[4] = tile::block_index();
  out[5] = tile::block_index_y();
  out[6] = tile::num_blocks();
  out[7] = tile::num_blocks_y();
  out[8] = static_cast<int>(reinterpret_cast<u64>(tile::shared_memory()) % 128);
}

// out [rounds, threads]: n rounds of handing a number to the next thread through shared memory.
template <PrimitiveConfig c>
void pass_around_block(const PrimitiveParams& p) {
  i32* slots = reinterpret_cast<i32*>(tile::shared_memory());
  const int thread = tile::thread_index();
  int mine = thread;
  for (int round = 0; round < c.n; ++round) {
    slots[thread] = mine;
    tile::sync_block();
    mine = slots[(thread + 1) % tile::num_threads()] + 1;
    tile::sync_block();
    static_cast<i32*>(p.out)[round * tile::num_threads() + thread] = mine;
  }
}

// The same inside each warp.
template <PrimitiveConfig c>
void pass_around_warp(const PrimitiveParams& p) {
  i32* slots = reinterpret_cast<i32*>(tile::shared_memory());
  const int thread = tile::thread_index();
  int mine = thread;
  for (int round = 0; round < c.n; ++round) {
    slots[thread] = mine;
    tile::sync_warp();
    mine = slots[thread - tile::lane_index() + (tile::lane_index() + 1) % tile::kWarpSize] + 1;
    tile::sync_warp();
    static_cast<i32*>(p.out)[round * tile::num_threads() + thread] = mine;
  }
}

// out [2, num_blocks * num_threads] and [num_blocks * num_threads]: launches of each thread. Every
// launch takes the numbers of the next block that the launch before left, plus one.
template <PrimitiveConfig c>
void pass_around_launches(const PrimitiveParams& p) {
  const int threads = tile::num_threads(), count = tile::num_blocks() * threads;
  const int i = tile::block_index() * threads + tile::thread_index();
  i32* out = static_cast<i32*>(p.out);
  i32& launches = out[2 * count + i];
  const i32* from = out + launches % 2 * count;
  i32* to = out + (launches + 1) % 2 * count;
  to[i] = from[(i + threads) % count] + 1;
  ++launches;
}

}  // namespace quire::kernels
