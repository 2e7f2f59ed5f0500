// Copies of boxes of a tensor to shared memory by the copy engine (sm_90 and up). GPU side.
#pragma once

#include "tile/mbarrier.h"
#include "tile/tensor_map_types.h"

namespace quire::tile {

// How L2 treats what a copy reads.
struct CachePolicy {
  u64 bits;
};
inline CachePolicy evict_first() {  // gone before everything else
  CachePolicy y;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(y.bits));
  return y;
}
inline CachePolicy evict_normal() {
  CachePolicy y;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(y.bits));
  return y;
}
inline CachePolicy evict_unchanged() {  // as copies without a policy
  CachePolicy y;
  asm("createpolicy.fractional.L2::evict_unchanged.b64 %0, 1.0;" : "=l"(y.bits));
  return y;
}

namespace tma {

// Brings the box at element coordinates (c0 innermost) of a 4-D map to `dst` (aligned to 128 bytes,
// with a swizzle to the repeat of its pattern) and reports its bytes to `full`. Elements outside
// the tensor become zeros, and count. c0 is a multiple of 16 bytes. By one thread.
__forceinline__ void load_4d(void* dst, const TensorMap& map, Mbarrier& full, int c0, int c1,
                             int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(dst)),
      "l"(&map), "r"(shared_address(&full.word)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// The same for a 5-D map.
__forceinline__ void load_5d(void* dst, const TensorMap& map, Mbarrier& full, CachePolicy policy,
                             const int (&at)[5]) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(shared_address(dst)),
      "l"(&map), "r"(shared_address(&full.word)), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]),
      "r"(at[4]), "l"(policy.bits)
      : "memory");
}

// Brings the box to the L2 cache. By one thread.
__forceinline__ void prefetch_4d(const TensorMap& map, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(&map),
      "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// Writes a box from shared memory; elements past the tensor's end are dropped. Coordinates are not
// negative, c0 and the tensor's innermost dimension multiples of 16 bytes. Before it: ordinary
// writes of the box, fence_async_proxy(), a barrier. By one thread, which then commits its stores
// as a group and may wait until they have read their shared memory.
__forceinline__ void store_4d(const TensorMap& map, const void* src, int c0, int c1, int c2,
                              int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group"
      " [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
      "r"(shared_address(src)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
__forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__forceinline__ void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

}  // namespace tma

// Ordinary accesses to shared memory that are ordered before this (the thread's own, and others' by
// a barrier) come before later ones of the asynchronous proxy (copy engine, wgmma).
__forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace quire::tile
