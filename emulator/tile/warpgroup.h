// Groups of four warps. Twin of kernels/tile/warpgroup.h.
#pragma once

#include "tile/warp.h"

namespace quire::tile {

constexpr int kWarpgroupSize = 128;

inline int uniform_warp_index(emulator::Site site = emulator::here()) {
  return warp::shuffle(warp_index(), 0, site);
}

template <int threads>
inline void named_barrier_sync(int id, emulator::Site site = emulator::here()) {
  static_assert(threads > 0 && threads % kWarpSize == 0);
  emulator::named_barrier(emulator::Collective::named_barrier_sync, id, threads, site);
}
template <int threads>
inline void named_barrier_arrive(int id, emulator::Site site = emulator::here()) {
  static_assert(threads > 0 && threads % kWarpSize == 0);
  emulator::named_barrier(emulator::Collective::named_barrier_arrive, id, threads, site);
}

// Fibers have all the registers they want: these see that the whole warpgroup comes.
template <int registers>
inline void release_registers(emulator::Site site = emulator::here()) {
  static_assert(registers >= 24 && registers <= 256 && registers % 8 == 0);
  emulator::meet_warpgroup(emulator::Collective::release_registers, site);
}
template <int registers>
inline void take_registers(emulator::Site site = emulator::here()) {
  static_assert(registers >= 24 && registers <= 256 && registers % 8 == 0);
  emulator::meet_warpgroup(emulator::Collective::take_registers, site);
}

}  // namespace quire::tile
