// Groups of four warps: barriers among some threads of a block, and moving registers between
// warpgroups (sm_90a). GPU side.
#pragma once

#include "tile/warp.h"

namespace quire::tile {

constexpr int kWarpgroupSize = 128;

// The warp's index, known to the compiler to be the same in all its lanes.
__forceinline__ int uniform_warp_index() { return warp::shuffle(warp_index(), 0); }

// Barrier `id` (1 to 15; 0 is sync_block) of `threads` threads, whole warps. It completes when that
// many have come, whether they wait or not, and starts again.
template <int threads>
__forceinline__ void named_barrier_sync(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(threads) : "memory");
}
template <int threads>
__forceinline__ void named_barrier_arrive(int id) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

// Registers a thread of this warpgroup has from now on: a multiple of 8 from 24 to 256. Giving
// back is immediate, taking waits until others have given back. By all threads of the warpgroup.
template <int registers>
__forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

}  // namespace quire::tile
