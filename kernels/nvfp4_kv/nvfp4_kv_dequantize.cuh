// NVFP4 to wider floating point: code * block scale * global scale.
//
// Grid:   x: any number of blocks, each takes threads / 2^row_shift rows at a time; y: parts of
// rows Block:  c.threads Smem:   none Output: wide_out, but rows that no page holds Needs:  any GPU
//
// A thread takes eight elements at a time, so that a warp's stores of 16-bit elements lie side by
// side: of the bytes moved four in five are written.
#pragma once

#include "nvfp4_kv/nvfp4_kv_types.h"
#include "tile/vec.h"

namespace quire::kernels {

constexpr int kNvfp4Codes = 8;  // of a word

template <bool aligned>
inline u32 load_codes(const u8* from) {
  if constexpr (aligned) return *reinterpret_cast<const u32*>(from);
  u32 word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) word |= static_cast<u32>(from[i]) << (8 * i);
  return word;
}

template <Nvfp4Config c>
void nvfp4_kv_dequantize(const Nvfp4Params& p) {
  using Out = tile::storage_t<c.dtype>;
  using Index = tile::storage_t<c.index_dtype>;
  constexpr int kLoads = 4;  // in flight
  constexpr int kAccess = c.aligned ? tile::min_of(kNvfp4Codes, 16 / size_bytes(c.dtype)) : 1;
  const float global = p.global_scale != nullptr ? *p.global_scale : p.global_value;
  const int words = p.cols / kNvfp4Codes;
  const int row_threads = 1 << p.row_shift, step = p.shares << p.row_shift;
  const int lane =
      (tile::block_index_y() << p.row_shift) | (tile::thread_index() & (row_threads - 1));
  const i64 rows_per_block = c.threads >> p.row_shift;
  for (i64 row = tile::block_index() * rows_per_block + (tile::thread_index() >> p.row_shift);
       row < p.rows; row += tile::num_blocks() * rows_per_block) {
    Nvfp4Row at;
    if constexpr (c.paged) {
      at = paged_row<Index>(p, static_cast<i32>(row));
      if (at.data < 0) continue;
    } else {
      at = flat_row(p, static_cast<i32>(row));
    }
    Out* out = static_cast<Out*>(p.wide_out) + at.wide;
    for (int first = lane; first < words; first += kLoads * step) {
      u32 codes[kLoads];
      tile::f8e4m3 scales[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int word = first + i * step;
        if (word >= words) break;
        codes[i] = load_codes<c.aligned>(p.data + at.data + word * 4);
        scales[i].bits = p.block_scales[at.scales + word / (kNvfp4Block / kNvfp4Codes)];
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int word = first + i * step;
        if (word >= words) break;
        const float scale = tile::to_float(scales[i]);
        float x[kNvfp4Codes];
#pragma unroll
        for (int j = 0; j < kNvfp4Codes; ++j)
          x[j] = e2m1_value(codes[i] >> (4 * j)) * scale * global;
        tile::store_by<kAccess>(out + word * kNvfp4Codes, x);
      }
    }
  }
}

}  // namespace quire::kernels
