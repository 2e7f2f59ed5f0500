// Where am I: thread, warp, block; shared memory and barriers. Twin of kernels/tile/thread.h.
#pragma once

#include "dtype.h"
#include "hooks.h"

namespace quire::tile {

using namespace quire::kernels;  // u8 … i64, DType

constexpr int kArch = 0;
constexpr int kWarpSize = 32;
constexpr u32 kFullWarp = 0xffffffffu;

inline int thread_index() { return emulator::position().thread; }
inline int lane_index() { return emulator::position().thread & 31; }
inline int warp_index() { return emulator::position().thread >> 5; }
inline int num_threads() { return emulator::position().num_threads; }
inline int block_index() { return emulator::position().block; }
inline int block_index_y() { return emulator::position().block_y; }
inline int num_blocks() { return emulator::position().num_blocks; }
inline int num_blocks_y() { return emulator::position().num_blocks_y; }

inline u8* shared_memory() { return emulator::shared_memory(); }

inline int opaque(int x) { return x; }
template <class T>
inline T* opaque(T* p) {
  return p;
}

inline void sync_block(emulator::Site site = emulator::here()) { emulator::sync_block(site); }
inline void sync_diverged_block(emulator::Site site = emulator::here()) {
  emulator::sync_block(site);
}
inline void sync_warp(emulator::Site site = emulator::here()) { emulator::sync_warp(site); }

}  // namespace quire::tile
