// What NVFP4 key-value caches share between host and device.
#pragma once

#include "dtype.h"

namespace quire::kernels {

constexpr i32 kNvfp4Block = 16;  // elements that share a block scale

// The value of a code, the lowest four bits: exact. As an f32 exponent and mantissa it is 2^-126
// times that, denormal where the code is.
constexpr float e2m1_value(u32 code) {
  return __builtin_bit_cast(float, (code & 8) << 28 | (code & 7) << 22) * 0x1p126f;
}

// Before it is rounded to e4m3.
constexpr float nvfp4_block_scale(float amax, float global_scale) {
  return amax / (6.f * global_scale);
}
// What elements are multiplied by, of the rounded block scale.
constexpr float nvfp4_inverse(float block_scale, float global_scale) {
  return block_scale > 0.f ? 1.f / (block_scale * global_scale) : 0.f;
}

struct Nvfp4Config {
  DType dtype = DType::bf16;       // of the wide side
  DType index_dtype = DType::i32;  // of page ids; i32 or i64
  bool paged = false;
  bool aligned = false;  // accesses of several elements; else one element and one byte at a time
  i32 threads = 256;

  bool operator==(const Nvfp4Config&) const = default;
};

template <class Visitor>
constexpr void visit_fields(const Nvfp4Config& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("index_dtype", c.index_dtype);
  visit("paged", c.paged);
  visit("aligned", c.aligned);
  visit("threads", c.threads);
}

// Strides in elements. Without pages a row is a token of one request, with one head.
struct Nvfp4Params {
  const void* wide_in;  // of the quantizer
  void* wide_out;       // of the dequantizers
  u8* data;
  u8* block_scales;
  const float* global_scale;  // [1], or null: global_value
  float global_value;
  i64 wide_stride;  // of tokens
  i64 data_stride, scale_stride;
  i32 rows;  // requests * tokens * heads
  i32 cols;  // a multiple of 16
  // Set by the CUDA backend: 2^row_shift threads share a row, of which `shares` blocks take parts.
  i32 row_shift;
  i32 shares;
  // Pages.
  const void* block_tables;  // [requests, max_pages]
  const i32* seq_lens;       // [requests]
  i64 table_row_stride, table_stride;
  i64 wide_request_stride, wide_head_stride;
  i64 data_page_stride, data_head_stride;
  i64 scale_page_stride, scale_head_stride;
  i64 num_pages;
  i32 max_pages, page_size, tokens, heads;
};

// Where a row is; data < 0: nowhere.
struct Nvfp4Row {
  i64 wide, data, scales;
};

// Row `row` of [requests, tokens, heads]. Bounded for any bytes in the index arrays.
template <class Index>
constexpr Nvfp4Row paged_row(const Nvfp4Params& p, i32 row) {
  const i32 head = row % p.heads, at = row / p.heads;
  const i32 token = at % p.tokens, request = at / p.tokens;
  const i32 place = token / p.page_size, slot = token % p.page_size;
  if (token >= p.seq_lens[request] || place >= p.max_pages) return {0, -1, 0};
  const i64 page = static_cast<const Index*>(
      p.block_tables)[request * p.table_row_stride + place * p.table_stride];
  if (page < 0 || page >= p.num_pages) return {0, -1, 0};
  return {
      request * p.wide_request_stride + token * p.wide_stride + head * p.wide_head_stride,
      page * p.data_page_stride + slot * p.data_stride + head * p.data_head_stride,
      page * p.scale_page_stride + slot * p.scale_stride + head * p.scale_head_stride,
  };
}

constexpr Nvfp4Row flat_row(const Nvfp4Params& p, i32 row) {
  return {row * p.wide_stride, row * p.data_stride, row * p.scale_stride};
}

}  // namespace quire::kernels
