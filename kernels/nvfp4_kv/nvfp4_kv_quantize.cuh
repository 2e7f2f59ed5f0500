// Rows to NVFP4: e2m1 codes, an e4m3 scale for every 16 neighbours.
//
// Grid:   x: ceil(rows / (threads / 2^row_shift)) blocks; y: parts of rows
// Block:  c.threads, 16 elements each
// Smem:   none
// Output: data, block_scales
// Needs:  any GPU
#pragma once

#include "nvfp4_kv/nvfp4_kv_types.h"
#include "tile/word.h"

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
  constexpr int kAccesses = kNvfp4Block / kAccess;
  const i64 row = static_cast<i64>(tile::block_index()) * (c.threads >> p.row_shift) +
                  (tile::thread_index() >> p.row_shift);
  const int lane = tile::thread_index() & ((1 << p.row_shift) - 1);
  const int block = (tile::block_index_y() << p.row_shift) | lane;
  if (row >= p.rows || block >= p.cols / kNvfp4Block) return;
  const Nvfp4Row at = flat_row(p, static_cast<i32>(row));
  const In* in = static_cast<const In*>(p.wide_in) + at.wide + block * kNvfp4Block;
  tile::word_t<kAccess * sizeof(In)> accesses[kAccesses];
#pragma unroll
  for (int i = 0; i < kAccesses; ++i) accesses[i] = tile::load_word<kAccess>(in + i * kAccess);
  const float global = p.global_scale != nullptr ? *p.global_scale : p.global_value;

  tile::LargestOfWords<In> largest;
  float x[2][8];
#pragma unroll
  for (int i = 0; i < kAccesses; ++i) {
    largest.template add<kAccess>(accesses[i]);
    float access[kAccess];
    tile::unpack_word<In>(access, accesses[i]);
#pragma unroll
    for (int j = 0; j < kAccess; ++j) x[(i * kAccess + j) / 8][(i * kAccess + j) % 8] = access[j];
  }
  const auto scale = tile::from_float<tile::f8e4m3>(nvfp4_block_scale(largest.value(), global));
  const float inverse = nvfp4_inverse(tile::to_float(scale), global);
  const u32 low = inverse == 0.f ? 0u : tile::narrow8_e2m1(x[0], inverse);
  const u32 high = inverse == 0.f ? 0u : tile::narrow8_e2m1(x[1], inverse);
  store_codes<c.aligned>(p.data + at.data + block * 8, low, high);
  p.block_scales[at.scales + block] = scale.bits;
}

}  // namespace quire::kernels
