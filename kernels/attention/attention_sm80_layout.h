// Shared memory of attention_sm80, known to the host (for the launch) and to the kernel.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

struct Sm80Layout {
  i32 threads;
  i32 slice_kv;  // tokens of a step that one warp works on
  // Elements between rows. q, k, v rows are padded by 16 bytes: with head dims that are multiples
  // of 16 a row then has an odd number of 16-byte chunks, so the 8 rows of an ldmatrix fall into
  // different banks. Output rows (floats) are padded so that a warp's 8-byte stores do too.
  i32 qk_row, vo_row, out_row;
  i32 k_stage_bytes, v_stage_bytes;
  // Byte offsets.
  i32 q;                   // [tile_q][qk_row]
  i32 k;                   // [num_stages][tile_kv][qk_row], of q's type as v
  i32 v;                   // [num_stages][tile_kv][vo_row]
  i32 out;                 // f32 [warps_kv][tile_q][out_row], where k and v were
  i32 row_page, row_slot;  // i32 [2][tile_kv]: where the rows of a step live
  i32 row_max, row_sum;    // f32 [warps_kv][tile_q]
  i32 bytes;
};

constexpr Sm80Layout sm80_layout(const AttentionConfig& c) {
  Sm80Layout l{};
  l.threads = 32 * c.warps_q * c.warps_kv;
  l.slice_kv = c.tile_kv / c.warps_kv;
  l.qk_row = c.head_dim_qk + 8;
  l.vo_row = c.head_dim_vo + 8;
  l.out_row = c.head_dim_vo + 8;
  l.k_stage_bytes = c.tile_kv * l.qk_row * 2;
  l.v_stage_bytes = c.tile_kv * l.vo_row * 2;
  l.q = 0;
  l.k = l.q + c.tile_q * l.qk_row * 2;
  l.v = l.k + c.num_stages * l.k_stage_bytes;
  l.out = l.k;
  const i32 kv_bytes = c.num_stages * (l.k_stage_bytes + l.v_stage_bytes);
  const i32 out_bytes = c.warps_kv * c.tile_q * l.out_row * 4;
  l.row_page = l.k + (kv_bytes > out_bytes ? kv_bytes : out_bytes);
  l.row_slot = l.row_page + 2 * c.tile_kv * 4;
  l.row_max = l.row_slot + 2 * c.tile_kv * 4;
  l.row_sum = l.row_max + c.warps_kv * c.tile_q * 4;
  l.bytes = l.row_sum + c.warps_kv * c.tile_q * 4;
  return l;
}

constexpr bool sm80_config_valid(const AttentionConfig& c) {
  return c.head_dim_qk % 16 == 0 && c.head_dim_vo % 16 == 0 &&
         c.tile_q == 16 * c.row_tiles * c.warps_q && c.tile_kv % (16 * c.warps_kv) == 0 &&
         c.num_stages == 2 && size_bytes(c.q_dtype) == 2 &&
         (c.kv_dtype == c.q_dtype || is_fp8(c.kv_dtype));
}

}  // namespace quire::kernels
