// Rows to NVFP4: e2m1 codes, an e4m3 scale for every 16 neighbours.
//
// Grid:   x: any number of blocks, each takes threads / 2^row_shift rows at a time; y: parts of
// rows Block:  c.threads, a block of 16 elements each at a time Smem:   none Output: data,
// block_scales Needs:  any GPU
#pragma once

#include "nvfp4_kv/nvfp4_kv_types.h"
#include "tile/vec.h"

namespace quire::kernels {

template <bool aligned>
inline void store_codes(u8* to, u32 low, u32 high) {
  if constexpr (aligned) {
    tile::Vec<u32, 2> words;
    words.data[0] = low;
    words.data[1] = high;
    *reinterpret_cast<tile::Vec<u32, 2>*>(to) = words;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      to[i] = static_cast<u8>(low >> (8 * i));
      to[i + 4] = static_cast<u8>(high >> (8 * i));
    }
  }
}

template <Nvfp4Config c>
void nvfp4_kv_quantize(const Nvfp4Params& p) {
  using In = tile::storage_t<c.dtype>;
  constexpr int kAccess = c.aligned ? 16 / size_bytes(c.dtype) : 1;
  const float global = p.global_scale != nullptr ? *p.global_scale : p.global_value;
  const int blocks = p.cols / kNvfp4Block;
  const int row_threads = 1 << p.row_shift, step = p.shares << p.row_shift;
  const int lane =
      (tile::block_index_y() << p.row_shift) | (tile::thread_index() & (row_threads - 1));
  const i64 rows_per_block = c.threads >> p.row_shift;
  for (i64 row = tile::block_index() * rows_per_block + (tile::thread_index() >> p.row_shift);
       row < p.rows; row += tile::num_blocks() * rows_per_block) {
    const Nvfp4Row at = flat_row(p, static_cast<i32>(row));
    const In* in = static_cast<const In*>(p.wide_in) + at.wide;
    for (int block = lane; block < blocks; block += step) {
      float x[kNvfp4Block];
      tile::load_by<kAccess>(x, in + block * kNvfp4Block);
      float amax = 0.f;
#pragma unroll
      for (int i = 0; i < kNvfp4Block; ++i) amax = tile::max_f32(amax, tile::abs_f32(x[i]));
      const auto scale = tile::from_float<tile::f8e4m3>(nvfp4_block_scale(amax, global));
      const float inverse = nvfp4_inverse(tile::to_float(scale), global);
      u32 words[2] = {};
#pragma unroll
      for (int i = 0; i < kNvfp4Block; ++i) {
        words[i / 8] |= (inverse == 0.f ? 0u : e2m1_code(x[i] * inverse)) << (i % 8 * 4);
      }
      store_codes<c.aligned>(p.data + at.data + block * 8, words[0], words[1]);
      p.block_scales[at.scales + block] = scale.bits;
    }
  }
}

}  // namespace quire::kernels
