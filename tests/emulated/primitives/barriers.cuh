// Barriers of sm_90. Grid: 1. Block and Smem as said. Output: out, as said.
#pragma once

#include "primitive_types.h"
#include "tile/mbarrier.h"
#include "tile/warpgroup.h"

namespace quire::kernels {

// out i32 [6]: what test() says of a fresh barrier and after one phase, by parity. Block: 32.
template <PrimitiveConfig c>
void mbarrier_parities(const PrimitiveParams& p) {
  auto& barrier = *reinterpret_cast<tile::Mbarrier*>(tile::shared_memory());
  i32* out = static_cast<i32*>(p.out);
  if (tile::thread_index() != 0) return;
  barrier.init(2);
  tile::fence_mbarrier_init();
  out[0] = barrier.test(0);
  out[1] = barrier.test(1);
  barrier.wait(1);  // the phase before the first has completed
  barrier.arrive();
  out[2] = barrier.test(0);
  barrier.arrive();
  out[3] = barrier.test(0);
  out[4] = barrier.test(1);
  barrier.arrive();
  barrier.arrive_expect(0);
  out[5] = barrier.test(1);
}

// Warp 0 hands n rounds of 32 numbers to warps 1 and 2 through a ring of two slots; they wait
// (mode 0) or poll (mode 1). Mode 2: they are copies of a, i32 [n, 32]. out: i32 [n, 2, 32].
// Block: 96. Smem: 512.
template <PrimitiveConfig c>
void mbarrier_ring(const PrimitiveParams& p) {
  auto* full = reinterpret_cast<tile::Mbarrier*>(tile::shared_memory());
  auto* empty = full + 2;
  auto* slots = reinterpret_cast<i32*>(full + 4);  // [2][32]
  const int lane = tile::lane_index(), warp = tile::uniform_warp_index();
  if (tile::thread_index() == 0) {
    for (int i = 0; i < 2; ++i) {
      full[i].init(32);
      empty[i].init(2);
    }
    tile::fence_mbarrier_init();
  }
  tile::sync_block();
  for (int round = 0; round < c.n; ++round) {
    const int stage = round % 2;
    const u32 parity = static_cast<u32>(round / 2 % 2);
    if (warp == 0) {
      empty[stage].wait(parity ^ 1);
      if constexpr (c.mode == 2) {
        if (lane < 8) {
          const i32* src = static_cast<const i32*>(p.a) + 32 * round + 4 * lane;
          tile::cp_async::copy16(slots + 32 * stage + 4 * lane, src, true);
        }
        full[stage].arrive_after_copies();
        continue;
      }
      slots[32 * stage + lane] = 100 * round + lane;
      full[stage].arrive();
      continue;
    }
    if constexpr (c.mode != 1) {
      full[stage].wait(parity);
    } else {
      while (!full[stage].test(parity)) {
      }
    }
    const int other = (lane + 1) % 32;
    static_cast<i32*>(p.out)[64 * round + 32 * (warp - 1) + lane] = slots[32 * stage + other];
    tile::sync_warp();
    if (lane == 0) empty[stage].arrive();
  }
}

// Two groups of 32 threads take turns n times: each adds its number to what the other left.
// Barrier 1 is the first group's turn, 2 the second's. out: i32 [32]. Block: 64. Smem: 128.
template <PrimitiveConfig c>
void take_turns(const PrimitiveParams& p) {
  auto* slots = reinterpret_cast<i32*>(tile::shared_memory());
  const int lane = tile::lane_index(), warp = tile::uniform_warp_index();
  if (warp == 1) {
    slots[lane] = 0;
    tile::named_barrier_arrive<64>(1);
  }
  for (int round = 0; round < c.n; ++round) {
    tile::named_barrier_sync<64>(1 + warp);
    const int other = (lane + 1) % 32;
    const int x = slots[other];
    tile::sync_warp();
    slots[other] = 3 * x + warp;
    if (warp == 0 || round + 1 < c.n) tile::named_barrier_arrive<64>(2 - warp);
  }
  if (warp == 1) static_cast<i32*>(p.out)[lane] = slots[(lane + 1) % 32];
}

// Registers move from the first warpgroup to the two others. out: i32 [12], the uniform index of
// each warp. Block: 384.
template <PrimitiveConfig c>
void move_registers(const PrimitiveParams& p) {
  const int warp = tile::uniform_warp_index();
  if (warp < 4) {
    tile::release_registers<40>();
  } else {
    tile::take_registers<232>();
  }
  if (tile::lane_index() == 7) static_cast<i32*>(p.out)[tile::thread_index() / 32] = warp;
}

}  // namespace quire::kernels
