// Where am I: thread, warp, block; shared memory and barriers. GPU side; emulator/tile has the
// twin.
#pragma once

#include "dtype.h"

namespace quire::tile {

using namespace quire::kernels;  // u8 … i64, DType

// Of the GPU that the code is for: 100 times the major, 10 times the minor compute capability.
constexpr int kArch = __CUDA_ARCH__;
constexpr int kWarpSize = 32;
constexpr u32 kFullWarp = 0xffffffffu;

inline int thread_index() { return static_cast<int>(threadIdx.x); }
inline int lane_index() { return static_cast<int>(threadIdx.x & 31); }
inline int warp_index() { return static_cast<int>(threadIdx.x >> 5); }
inline int num_threads() { return static_cast<int>(blockDim.x); }
inline int block_index() { return static_cast<int>(blockIdx.x); }
inline int block_index_y() { return static_cast<int>(blockIdx.y); }
inline int num_blocks() { return static_cast<int>(gridDim.x); }
inline int num_blocks_y() { return static_cast<int>(gridDim.y); }

// The block's dynamic shared memory, aligned to 1024 bytes.
inline u8* shared_memory() {
  extern __shared__ __align__(1024) u8 smem[];
  return smem;
}

// x, unseen by the compiler: what derives from it is computed anew at each use, not kept in
// registers over a loop.
inline int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <class T>
inline T* opaque(T* p) {
  asm volatile("" : "+l"(p));
  return p;
}

inline void sync_block() { __syncthreads(); }
// The same where the lanes of a warp may come one after the other. In kernels whose blocks are
// clusters ptxas 13.0 has left warps apart in front of the aligned barrier, which then lets others
// pass too early.
inline void sync_diverged_block() { asm volatile("barrier.sync 0;" ::: "memory"); }
inline void sync_warp() { __syncwarp(); }

}  // namespace quire::tile
