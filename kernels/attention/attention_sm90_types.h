// What the host hands to attention_sm90: the parameters of every attention kernel, and K and V as
// tensor maps.
#pragma once

#include "attention/attention_types.h"
#include "tile/tensor_map_types.h"

namespace quire::kernels {

// Rows of a tensor with two outer dimensions by 32-bit numbers: row (i, j) begins
// unit * number(i, j) bytes after the first.
struct RowNumbers {
  u32 unit, outer, inner;

  inline u32 number(i32 i, i32 j) const {
    return static_cast<u32>(i) * outer + static_cast<u32>(j) * inner;
  }
};

// Division by a number that the host knows, without dividing. (Granlund and Montgomery, "Division
// by Invariant Integers using Multiplication", PLDI 1994, section 4.)
struct Divisor {
  u32 factor, shift;

  inline i32 quotient(i32 n) const {  // of n >= 0
    const auto x = static_cast<u32>(n);
    return static_cast<i32>((static_cast<u32>(static_cast<u64>(x) * factor >> 32) + x) >> shift);
  }
};

struct AttentionSm90Params {
  AttentionParams attention;
  Divisor page_size;  // 1 where KV is ragged
  // For rows that are gathered: q by token and head, k and v by page and row of it (ragged: row).
  RowNumbers q_rows, k_rows, v_rows;
  // The rest is for c.boxes: dimensions innermost first, boxes of 64 columns, 128-byte swizzle.
  i32 box_rows;   // of k and v; divides tile_kv and the page size
  i32 out_boxes;  // 0: rows of out are written one by one
  // head_dim | rows of a page | KV heads | pages; box 64 x box_rows x 1 x 1. Ragged k and v are one
  // page of total_kv rows.
  tile::TensorMap k, v;
  // head_dim | heads of a group | tokens | KV heads; box 64 x group_size x tile_rows / group_size x
  // 1: the packed rows of an item. out: 16 / group_size tokens, the rows of a warp.
  tile::TensorMap q, out;
};

}  // namespace quire::kernels
