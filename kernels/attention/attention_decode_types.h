// What the host hands to attention_decode: the parameters of every attention kernel, how tokens are
// found, and K and V as tensor maps.
#pragma once

#include "attention/attention_types.h"
#include "tile/tensor_map_types.h"

namespace quire::kernels {

// How boxes of K and V stay in L2. first: they leave it before everything else. unchanged: as
// reading without a wish.
enum class KvEviction : i32 { first, normal, unchanged };

struct AttentionDecodeParams {
  AttentionParams attention;
  i32 page_shift;  // page_size is 2^page_shift; -1: it is no power of two
  // Tokens that are looked up together, 2^copy_shift: they divide tile_kv and the page size.
  i32 copy_shift;
  KvEviction eviction;
  i32 workers_per_head;  // num_workers / num_kv_heads
  // 1: the kernel before this one does other items of the same plan. The two share the GPU, and
  // this one starts when all blocks of that one have.
  i32 beside;
  // The rest is for c.boxes: a box is all columns of 2^copy_shift tokens of a page and head.
  // 128 bytes of a row | rows of a page | 128 bytes each | KV heads | pages; 128-byte swizzle.
  // Ragged k and v are one page of total_kv rows.
  tile::TensorMap k, v;
};

}  // namespace quire::kernels
