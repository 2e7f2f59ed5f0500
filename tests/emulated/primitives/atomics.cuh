// Grid: any. Block: any. Smem: none. Output: out i32 [7], the results of all threads' atomics on
// it.
#pragma once

#include "primitive_types.h"
#include "tile/atomic.h"

namespace quire::kernels {

// Thread t of block b has x = b * threads + t - 100. b: i32 [all threads], marks the values that
// the first atomic returned.
template <PrimitiveConfig c>
void atomics(const PrimitiveParams& p) {
  const int thread = tile::block_index() * tile::num_threads() + tile::thread_index();
  const int x = thread - 100;
  i32* out = static_cast<i32*>(p.out);
  i32* seen = static_cast<i32*>(const_cast<void*>(p.b));
  seen[tile::atomic_add(&out[0], 1)] = 1;
  tile::atomic_add(&out[1], x);
  tile::atomic_add(reinterpret_cast<u32*>(&out[2]), 0x80000001u);
  tile::atomic_add(reinterpret_cast<float*>(&out[3]), static_cast<float>(x));
  tile::atomic_min(&out[4], x);
  tile::atomic_max(&out[5], x);
  tile::atomic_max(reinterpret_cast<u32*>(&out[6]), static_cast<u32>(x));
}

// Every block writes its number to b (i32 [blocks]) and then counts itself in out[0]; the last one
// adds up what all have written, out[1]. n blocks, so that the counter is 0 again.
template <PrimitiveConfig c>
void count_blocks(const PrimitiveParams& p) {
  i32* out = static_cast<i32*>(p.out);
  i32* numbers = static_cast<i32*>(const_cast<void*>(p.b));
  auto* is_last = reinterpret_cast<i32*>(tile::shared_memory());
  if (tile::thread_index() == 1) numbers[tile::block_index()] = tile::block_index() + 1;
  tile::sync_block();
  if (tile::thread_index() == 0) {
    is_last[0] = tile::atomic_count(reinterpret_cast<u32*>(out), c.n - 1) == c.n - 1;
  }
  tile::sync_block();
  if (is_last[0] && tile::thread_index() == 2) {
    int sum = 0;
    for (int i = 0; i < c.n; ++i) sum += numbers[i];
    out[1] = sum;
  }
}

}  // namespace quire::kernels
