// Copies of boxes by the copy engine. Grid: 1. Block: 64. Smem: see load_boxes.
#pragma once

#include "primitive_types.h"
#include "tile/tma.h"

namespace quire::kernels {

// load(i, dst, full) brings box i of count boxes of n bytes (n a multiple of 1024), by one thread.
// out: u8 [count, n], shared memory as the engine left it. Block: 64.
template <PrimitiveConfig c, class Load>
void load_all_boxes(const PrimitiveParams& p, Load&& load) {
  u8* smem = tile::shared_memory();
  auto& full = *reinterpret_cast<tile::Mbarrier*>(smem + p.count * c.n);
  const int thread = tile::thread_index();
  if (thread == 0) {
    full.init(1);
    tile::fence_mbarrier_init();
  }
  tile::sync_block();
  if (thread == 0) {
    full.arrive_expect(p.count * c.n);
    for (int i = 0; i < p.count; ++i) load(i, smem + i * c.n, full);
  }
  full.wait(0);
  for (int i = thread; i < p.count * c.n; i += 64) static_cast<u8*>(p.out)[i] = smem[i];
}

// b: i32 [count, 4], coordinates.
template <PrimitiveConfig c>
void load_boxes(const PrimitiveParams& p) {
  load_all_boxes<c>(p, [&](int i, u8* dst, tile::Mbarrier& full) {
    const i32* at = static_cast<const i32*>(p.b) + 4 * i;
    if (i == 0) tile::tma::prefetch_4d(p.map, at[0], at[1], at[2], at[3]);
    tile::tma::load_4d(dst, p.map, full, at[0], at[1], at[2], at[3]);
  });
}

// The same with b: i32 [count, 5] and a map of five dimensions.
template <PrimitiveConfig c>
void load_5d_boxes(const PrimitiveParams& p) {
  load_all_boxes<c>(p, [&](int i, u8* dst, tile::Mbarrier& full) {
    const i32* b = static_cast<const i32*>(p.b) + 5 * i;
    const int at[5] = {b[0], b[1], b[2], b[3], b[4]};
    const auto policy = i % 3 == 0   ? tile::evict_first()
                        : i % 3 == 1 ? tile::evict_normal()
                                     : tile::evict_unchanged();
    tile::tma::load_5d(dst, p.map, full, policy, at);
  });
}

// The inverse: a: u8 [count, n], boxes as they are in shared memory; written to the tensor.
template <PrimitiveConfig c>
void store_boxes(const PrimitiveParams& p) {
  u8* smem = tile::shared_memory();
  const int thread = tile::thread_index();
  for (int i = thread; i < p.count * c.n; i += 64) smem[i] = static_cast<const u8*>(p.a)[i];
  tile::fence_async_proxy();
  tile::sync_block();
  if (thread == 0) {
    for (int i = 0; i < p.count; ++i) {
      const i32* at = static_cast<const i32*>(p.b) + 4 * i;
      tile::tma::store_4d(p.map, smem + i * c.n, at[0], at[1], at[2], at[3]);
    }
    tile::tma::commit_stores();
    tile::tma::wait_stores_read();
  }
}

}  // namespace quire::kernels
