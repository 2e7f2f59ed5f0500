// Kernels that are wrong on purpose; each says how. The emulator must notice.
// Grid: 1. Block: 64. Smem: 1024 bytes. Output: out f32 [64], where it says so.
#pragma once

#include "primitive_types.h"
#include "tile/mma.h"
#include "tile/warp.h"

namespace quire::kernels {

// The warp's halves call shuffle in two places.
template <PrimitiveConfig c>
void divergent_shuffle(const PrimitiveParams& p) {
  float x = 1;
  if (tile::lane_index() < 16) {
    x = tile::warp::shuffle_xor(x, 1);
  } else {
    x = tile::warp::shuffle_xor(x, 2);
  }
  static_cast<float*>(p.out)[tile::thread_index()] = x;
}

// The warp's halves call different collectives.
template <PrimitiveConfig c>
void divergent_collective(const PrimitiveParams& p) {
  const bool low = tile::lane_index() < 16;
  static_cast<float*>(p.out)[tile::thread_index()] =
      low ? tile::warp::shuffle(1.f, 0) : static_cast<float>(tile::warp::ballot(true));
}

// Thread 40 leaves before the barrier.
template <PrimitiveConfig c>
void missing_thread(const PrimitiveParams&) {
  if (tile::thread_index() == 40) return;
  tile::sync_block();
}

// Warp 0 waits in a shuffle for lane 0, which waits for the block.
template <PrimitiveConfig c>
void crossed_waits(const PrimitiveParams& p) {
  if (tile::thread_index() == 0) tile::sync_block();
  static_cast<float*>(p.out)[tile::thread_index()] = tile::warp::shuffle(1.f, 0);
}

// Block of n threads: not a whole warp.
template <PrimitiveConfig c>
void partial_warp(const PrimitiveParams& p) {
  static_cast<float*>(p.out)[tile::thread_index()] = tile::warp::sum(1.f);
}

// The destination is 8 bytes off.
template <PrimitiveConfig c>
void misaligned_copy(const PrimitiveParams& p) {
  tile::cp_async::copy16(tile::shared_memory() + 8, p.a, true);
}

// The last row ends 16 bytes behind shared memory.
template <PrimitiveConfig c>
void matrix_outside(const PrimitiveParams& p) {
  u32 r[4];
  tile::ldmatrix_x4(r, tile::shared_memory() + 1024 - 31 * 16 + 16 * tile::lane_index());
  static_cast<u32*>(p.out)[tile::thread_index()] = r[0];
}

// The copy's destination is global memory.
template <PrimitiveConfig c>
void copy_to_global(const PrimitiveParams& p) {
  tile::cp_async::copy16(p.out, p.a, true);
}

// One float behind the 1024 bytes.
template <PrimitiveConfig c>
void write_behind(const PrimitiveParams&) {
  if (tile::thread_index() == 0) {
    volatile float* smem = reinterpret_cast<float*>(tile::shared_memory());
    smem[256] = 1;
  }
}

// Reads what cp_async brings: n 0 without waiting, n 1 after waiting for one group too few, n 2
// correctly. a: f32 [4 * 64], out: f32 [64].
template <PrimitiveConfig c>
void early_read(const PrimitiveParams& p) {
  float* mine = reinterpret_cast<float*>(tile::shared_memory()) + 4 * tile::thread_index();
  mine[0] = 7;  // stale
  tile::cp_async::copy16(mine, static_cast<const float*>(p.a) + 4 * tile::thread_index(), true);
  tile::cp_async::commit();
  if constexpr (c.n == 1) tile::cp_async::wait<1>();
  if constexpr (c.n == 2) tile::cp_async::wait<0>();
  static_cast<float*>(p.out)[tile::thread_index()] = mine[0];
}

// Adds shared memory that nobody wrote.
template <PrimitiveConfig c>
void unwritten_shared(const PrimitiveParams& p) {
  const float* smem = reinterpret_cast<const float*>(tile::shared_memory());
  static_cast<float*>(p.out)[tile::thread_index()] = 0.f * smem[tile::thread_index()];
}

// Reads the neighbour's number: n 0 without a barrier, n 1 with one, n 2 with a barrier of the warp
// only, n 3 with a shuffle, which is no barrier.
template <PrimitiveConfig c>
void neighbours_number(const PrimitiveParams& p) {
  float* smem = reinterpret_cast<float*>(tile::shared_memory());
  const int thread = tile::thread_index();
  smem[thread] = static_cast<float>(thread);
  if constexpr (c.n == 1) tile::sync_block();
  if constexpr (c.n == 2) tile::sync_warp();
  if constexpr (c.n == 3) tile::warp::ballot(true);
  static_cast<float*>(p.out)[thread] = smem[(thread + 1) % tile::num_threads()];
}

// Reads a chunk that the neighbour copied: n 0 after the own wait only, n 1 after a barrier too.
template <PrimitiveConfig c>
void neighbours_copy(const PrimitiveParams& p) {
  float* smem = reinterpret_cast<float*>(tile::shared_memory());
  const int thread = tile::thread_index();
  tile::cp_async::copy16(smem + 4 * thread, static_cast<const float*>(p.a) + 4 * thread, true);
  tile::cp_async::commit();
  tile::cp_async::wait<0>();
  if constexpr (c.n == 1) tile::sync_block();
  static_cast<float*>(p.out)[thread] = smem[4 * ((thread + 1) % tile::num_threads())];
}

}  // namespace quire::kernels
