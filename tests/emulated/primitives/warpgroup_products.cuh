// Products of a warpgroup. Grid: 1. Block: 128. Smem: 64 KB. Output: out.
#pragma once

#include "primitive_types.h"
#include "tile/tma.h"
#include "tile/wgmma.h"

namespace quire::kernels {

// rows of 2 x 128 bytes into two panels of `rows` rows with the 128-byte swizzle.
inline void fill_panels(u8* panels, const void* src, int rows, int row_bytes) {
  for (int i = tile::thread_index(); i < rows * row_bytes / 16; i += tile::num_threads()) {
    const int row = i / (row_bytes / 16), chunk = i % (row_bytes / 16);
    const u64* from = reinterpret_cast<const u64*>(static_cast<const u8*>(src) + 16 * i);
    u64* to = reinterpret_cast<u64*>(panels + chunk / 8 * (rows * 128) + row * 128 +
                                     (chunk % 8 ^ row % 8) * 16);
    to[0] = from[0];
    to[1] = from[1];
  }
}

// Bytes 0 … 31 of step `step` of this thread's rows of A: the layout of mma.m16n8k16's A.
inline void load_fragment(u32 (&r)[4], const void* a, int step) {
  const int lane = tile::lane_index(), row = tile::warp_index() * 16 + lane / 4;
  const u32* words = static_cast<const u32*>(a) + step * 8 + lane % 4;  // rows of 64 words
  r[0] = words[64 * row];
  r[1] = words[64 * (row + 8)];
  r[2] = words[64 * row + 4];
  r[3] = words[64 * (row + 8) + 4];
}

// out f32 [64, n] = a b + out, over k of 256 bytes. a: dtype [64, k]. b: dtype [n, k], or
// [k, n] where mode is 2. mode 0: A from shared memory, 1: from registers, 2: from registers, B
// transposed. Two groups: the second panel's products are in flight while the first is waited for.
template <PrimitiveConfig c>
void multiply_warpgroup(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  constexpr int kSteps = 8, kDepth = 256 / sizeof(T);
  u8* a = tile::shared_memory();
  u8* b = a + 64 * 256;
  fill_panels(a, p.a, 64, 256);
  if constexpr (c.mode == 2) {
    fill_panels(b, p.b, kDepth, c.n * 2);
  } else {
    fill_panels(b, p.b, c.n, 256);
  }
  tile::fence_async_proxy();
  tile::sync_block();

  const int lane = tile::lane_index();
  float* out = static_cast<float*>(p.out) + (tile::warp_index() * 16 + lane / 4) * c.n;
  float d[c.n / 2];  // in registers, once all loops over it are unrolled
#pragma unroll
  for (int i = 0; i < c.n / 2; ++i) {
    d[i] = out[i / 2 % 2 * 8 * c.n + i / 4 * 8 + lane % 4 * 2 + i % 2];
  }
  u32 fragments[kSteps][4];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) load_fragment(fragments[step], p.a, step);
  const u64 a_rows = tile::wgmma::descriptor(a);
  const u64 b_rows = tile::wgmma::descriptor(b, c.mode == 2 ? kDepth * 128 : 0);
  tile::wgmma::fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const u64 b_step = tile::wgmma::advance(
        b_rows, c.mode == 2 ? step * 2048 : step / 4 * (c.n * 128) + step % 4 * 32);
    if constexpr (c.mode == 0) {
      const u64 a_step = tile::wgmma::advance(a_rows, step / 4 * (64 * 128) + step % 4 * 32);
      tile::Wgmma<T, c.n>::ss(d, a_step, b_step, true);
    } else if constexpr (c.dtype == DType::f8e4m3) {
      tile::Wgmma<T, c.n>::rs(d, fragments[step], b_step, true);
    } else {
      tile::Wgmma<T, c.n>::template rs<c.mode == 2>(d, fragments[step], b_step, true);
    }
    if (step % 4 == 3) tile::wgmma::commit();
  }
  tile::wgmma::wait<1>();
  tile::wgmma::wait<0>();
  tile::wgmma::pin(d);
#pragma unroll
  for (int i = 0; i < c.n / 2; ++i) {
    out[i / 2 % 2 * 8 * c.n + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}

// a: u32 [4, 32], register i of every lane. out: u16 [4, 8, 8], four matrices. Block: 32.
template <PrimitiveConfig c>
void store_matrices(const PrimitiveParams& p) {
  u16* smem = reinterpret_cast<u16*>(tile::shared_memory());
  const int lane = tile::lane_index();
  const u32* r = static_cast<const u32*>(p.a) + lane;
  tile::stmatrix_x4(smem + 8 * lane, r[0], r[32], r[64], r[96]);
  tile::sync_warp();
  for (int i = lane; i < 256; i += 32) static_cast<u16*>(p.out)[i] = smem[i];
}

}  // namespace quire::kernels
