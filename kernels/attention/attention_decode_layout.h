// Shared memory and threads of attention_decode, known to the host and to the kernel.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

struct DecodeLayout {
  i32 warps;  // that attend; one more looks up
  i32 threads;
  // Rows are panels of 128 bytes; the last may be used in part.
  i32 k_panels, v_panels;
  i32 k_tile_bytes, v_tile_bytes, stage_bytes, ring_bytes;  // a ring: of one warp
  i32 q_row, q_stage_bytes;  // q_row: elements between rows, an odd number of 16 bytes
  // Warps hand over the states of 8 rows and state_cols columns at a time. state_row: floats
  // between rows, so that a warp's stores fall into different banks.
  i32 state_cols, state_row;
  // Byte offsets.
  i32 ring;     // [warps][num_stages]{k [k_panels][tile_kv][128], v [v_panels][tile_kv][128]}
  i32 q;        // [kDecodeQStages][tile_q][q_row]
  i32 q_scale;  // f32 [kDecodeQStages][tile_q], for an fp8 cache
  i32 state;    // f32 [warps][8][state_row]
  i32 row_max, row_sum;  // f32 [warps][8]
  i32 items;             // DecodeItem [kDecodeItems]
  i32 raw_items;         // WorkItem [kDecodeItems / 2]
  i32 full;              // Mbarrier [warps][num_stages]
  i32 bytes;
};

constexpr i32 kDecodeItems = 32;      // looked up ahead, in two halves
constexpr i32 kDecodeItemBytes = 64;  // room for a DecodeItem
// Loads queue for microseconds behind those of K and V: q is asked for three items ahead.
constexpr i32 kDecodeQStages = 4;

constexpr i32 kDecodeMaxAccumulators = 4096;  // of a warp: 128 registers

constexpr DecodeLayout decode_layout(const AttentionConfig& c) {
  DecodeLayout l{};
  l.warps = c.warps_kv;
  l.threads = 32 * (l.warps + 1);
  l.k_panels = (c.head_dim_qk * size_bytes(c.kv_dtype) + 127) / 128;
  l.v_panels = (c.head_dim_vo * size_bytes(c.kv_dtype) + 127) / 128;
  l.k_tile_bytes = c.tile_kv * l.k_panels * 128;
  l.v_tile_bytes = c.tile_kv * l.v_panels * 128;
  l.stage_bytes = l.k_tile_bytes + l.v_tile_bytes;
  l.ring_bytes = c.num_stages * l.stage_bytes;
  l.q_row = c.head_dim_qk + 8;
  l.q_stage_bytes = c.tile_q * l.q_row * 2;
  l.state_cols = c.head_dim_vo < 128 ? c.head_dim_vo : 128;
  l.state_row = l.state_cols + 4;
  l.ring = 0;
  l.q = l.ring + l.warps * l.ring_bytes;
  l.q_scale = l.q + kDecodeQStages * l.q_stage_bytes;
  l.state = l.q_scale + (is_fp8(c.kv_dtype) ? kDecodeQStages * c.tile_q * 4 : 0);
  l.row_max = l.state + l.warps * 8 * l.state_row * 4;
  l.row_sum = l.row_max + l.warps * 8 * 4;
  l.items = l.row_sum + l.warps * 8 * 4;
  l.raw_items = l.items + kDecodeItems * kDecodeItemBytes;
  l.full = l.raw_items + kDecodeItems / 2 * static_cast<i32>(sizeof(WorkItem));
  l.bytes = l.full + l.warps * c.num_stages * 8;
  return l;
}

constexpr bool decode_config_valid(const AttentionConfig& c) {
  return c.kernel == AttentionKernel::decode && c.head_dim_qk % 16 == 0 &&
         c.head_dim_vo % 16 == 0 && c.head_dim_qk <= 256 && c.head_dim_vo <= 256 &&
         c.tile_q == 8 * c.row_tiles && c.tile_q * c.head_dim_vo <= kDecodeMaxAccumulators &&
         c.warps_q == 1 && c.warps_kv >= 1 && c.warps_kv <= 8 &&
         (c.tile_kv == 16 || c.tile_kv == 32) && c.num_stages >= 1 && size_bytes(c.q_dtype) == 2 &&
         (c.kv_dtype == c.q_dtype || is_fp8(c.kv_dtype)) && (c.aligned || !c.boxes) &&
         c.variant == VariantKind::none && c.softmax;
}

}  // namespace quire::kernels
