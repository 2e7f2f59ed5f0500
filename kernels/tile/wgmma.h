// Matrix products of a warpgroup (wgmma, sm_90a): asynchronous, B and optionally A from shared
// memory. GPU side.
//
//   wgmma::fence();            registers and shared memory are ready
//   Wgmma<T, n>::ss(d, …);     any number of products
//   wgmma::commit();           they form a group
//   wgmma::wait<pending>();    until at most `pending` groups are unfinished
//   wgmma::pin(d);             d may be used from here
//
// Accumulators of D[64, n]: warp w of the group holds rows 16 w to 16 w + 15, laid out over its
// lanes as mma.m16n8k16 has them: with g = lane / 4 and t = lane % 4, d[4 i + 2 r + e] is row
// g + 8 r, column 8 i + 2 t + e. A in registers has the layout of mma.m16n8k16's (8-bit: k32's) A.
// Operands in shared memory: panels of 128 bytes a row with the 128-byte swizzle, in which 16-byte
// chunk c of row r is at chunk c ^ (r % 8); panels start at multiples of 1024 bytes.
#pragma once

#include "tile/convert.h"
#include "tile/mma.h"
#include "tile/warpgroup.h"

namespace quire::tile {

namespace wgmma {

__forceinline__ void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__forceinline__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
__forceinline__ void wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Keeps the compiler from moving uses of accumulators across the wait.
template <int n>
__forceinline__ void pin(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
// ptxas moves waits up over arithmetic that does not need them. A branch on a value it cannot know
// to be positive or zero keeps what the value depends on before the wait that follows.
__forceinline__ void hold(float nonnegative) {
  if (nonnegative < 0.f) __trap();
}

// Where an operand begins. K-major operands (A; B with rows of k): groups of 8 rows follow each
// other, step by 32 bytes to go along k and by the panel's bytes to the next panel.
// MN-major (transposed B, rows of n): panel_bytes leads to the next 64 columns.
__forceinline__ u64 descriptor(const void* smem, int panel_bytes = 0) {
  constexpr u64 kSwizzle128 = 1ull << 62;
  constexpr u64 kEightRows = 1024 >> 4;
  return kSwizzle128 | kEightRows << 32 | static_cast<u64>(panel_bytes >> 4) << 16 |
         ((shared_address(smem) & 0x3ffff) >> 4);
}
// The descriptor `bytes` further on.
__forceinline__ u64 advance(u64 descriptor, int bytes) {
  return descriptor + static_cast<u64>(bytes >> 4);
}

}  // namespace wgmma

// D[64, n] = A[64, k] B[k, n] (+ D if accumulate): f32 accumulators; T = bf16, f16 with k = 16 or
// f8e4m3 with k = 32. ss: A and B from shared memory, both K-major. rs: A from registers; B
// K-major, or MN-major if transpose_b (16-bit types only).
template <class T, int n>
struct Wgmma;

}  // namespace quire::tile

#include "tile/wgmma_shapes.h"
