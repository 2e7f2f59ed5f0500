// Grid: 1. Block: 32. Smem: 512 bytes. Output: out.
#pragma once

#include "primitive_types.h"
#include "tile/mma.h"

namespace quire::kernels {

// a: u16 [4, 8, 8], four matrices. out: u32 [4, 32], register i of every lane. n 1: transposed.
template <PrimitiveConfig c>
void load_matrices(const PrimitiveParams& p) {
  u16* smem = reinterpret_cast<u16*>(tile::shared_memory());
  const int lane = tile::lane_index();
  for (int i = lane; i < 256; i += 32) smem[i] = static_cast<const u16*>(p.a)[i];
  tile::sync_block();
  u32 r[4];
  if constexpr (c.n == 1) {
    tile::ldmatrix_x4_trans(r, smem + 8 * lane);
  } else {
    tile::ldmatrix_x4(r, smem + 8 * lane);
  }
  for (int i = 0; i < 4; ++i) static_cast<u32*>(p.out)[32 * i + lane] = r[i];
}

// a: u16 [8, 8], laid out over the warp as ldmatrix has it; out: the same of its transpose.
template <PrimitiveConfig c>
void transpose(const PrimitiveParams& p) {
  const int lane = tile::lane_index();
  static_cast<u32*>(p.out)[lane] = tile::transpose_8x8(static_cast<const u32*>(p.a)[lane]);
}

// a: dtype [16, 16], b: dtype [8, 16] (b^T), out: f32 [16, 8] += a b, n times.
template <PrimitiveConfig c>
void multiply(const PrimitiveParams& p) {
  using T = tile::storage_t<c.dtype>;
  const int lane = tile::lane_index(), g = lane / 4, t = lane % 4;
  const u32* a = static_cast<const u32*>(p.a);  // two elements each
  const u32* b = static_cast<const u32*>(p.b);
  const u32 fragment[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4],
                           a[8 * (g + 8) + t + 4]};
  float* out = static_cast<float*>(p.out);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = out[8 * (g + 8 * (i / 2)) + 2 * t + i % 2];
  for (int i = 0; i < c.n; ++i) {
    tile::mma_m16n8k16<T>(d, fragment, b[8 * g + t], b[8 * g + t + 4]);
  }
  for (int i = 0; i < 4; ++i) out[8 * (g + 8 * (i / 2)) + 2 * t + i % 2] = d[i];
}

}  // namespace quire::kernels
