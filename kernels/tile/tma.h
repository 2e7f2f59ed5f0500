// Copies of boxes of a tensor to shared memory by the copy engine (sm_90 and up). GPU side.
#pragma once

#include "tile/mbarrier.h"
#include "tile/tensor_map_types.h"

namespace quire::tile {

namespace tma {

__forceinline__ void prefetch_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Brings the box at element coordinates (c0 innermost) of a 4-D map to `dst` (aligned to 128 bytes,
// with a swizzle to the repeat of its pattern) and reports its bytes to `full`. Elements outside
// the tensor become zeros, and count. By one thread.
__forceinline__ void load_4d(void* dst, const TensorMap& map, Mbarrier& full, int c0, int c1,
                             int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(dst)),
      "l"(&map), "r"(shared_address(&full.word)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

}  // namespace tma

// Orders this thread's ordinary accesses to shared memory before later ones of the asynchronous
// proxy (copy engine, wgmma) that a barrier orders after it.
__forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace quire::tile
