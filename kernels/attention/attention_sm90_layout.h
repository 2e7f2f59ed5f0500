// Shared memory, threads and registers of attention_sm90, known to the host and to the kernel.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

struct Sm90Layout {
  i32 consumers;  // warpgroups, 64 rows each; one producer warpgroup comes before them
  i32 threads;
  i32 producer_registers, consumer_registers;  // a thread
  i32 q_stages, k_stages, v_stages;
  // Output leaves through the stage of q of its item, which nothing else needs any more by then.
  bool stages_out;
  // Tiles are panels of 64 columns, 128 bytes a row; the last panel may be used in part.
  i32 qk_panels, vo_panels;
  i32 q_stage_bytes, k_stage_bytes, v_stage_bytes;
  // Byte offsets.
  i32 q;                                                  // [q_stages][qk_panels][tile_q][64]
  i32 k;                                                  // [k_stages][qk_panels][tile_kv][64]
  i32 v;                                                  // [v_stages][vo_panels][tile_kv][64]
  i32 items;                                              // Sm90Item [kSm90ItemSlots]
  i32 item_full, item_empty;                              // Mbarrier [kSm90ItemSlots]
  i32 q_full, q_empty, k_full, k_empty, v_full, v_empty;  // Mbarrier [stages]
  i32 bytes;
};

constexpr i32 kSm90MaxSmemBytes = 227 * 1024;
constexpr i32 kSm90MaxGroupSize = 900;  // what packed_row() divides by exactly
constexpr i32 kSm90ItemBytes = 128;     // room for an Sm90Item
// An item's rows are written while the next one is worked on, the one after that is loaded and its
// successor looked up.
constexpr i32 kSm90ItemSlots = 4;

constexpr Sm90Layout sm90_layout(const AttentionConfig& c) {
  Sm90Layout l{};
  l.consumers = c.tile_q / 64;
  l.threads = 128 * (1 + l.consumers);
  // 64 K registers a block of at most 4 warpgroups; multiples of 8.
  // At most 504 for three warpgroups, 512 for two or four. Gathering takes registers, boxes few.
  const bool one = l.consumers == 1, three = l.consumers == 3;
  l.producer_registers = one ? 160 : three ? 32 : c.boxes ? 40 : 88;
  l.consumer_registers = one ? 240 : three ? 160 : c.boxes ? 232 : 208;
  l.qk_panels = (c.head_dim_qk + 63) / 64;
  l.vo_panels = (c.head_dim_vo + 63) / 64;
  l.q_stage_bytes = c.tile_q * l.qk_panels * 128;
  l.k_stage_bytes = c.tile_kv * l.qk_panels * 128;
  l.v_stage_bytes = c.tile_kv * l.vo_panels * 128;
  l.k_stages = c.num_stages;
  l.v_stages = c.num_stages > 2 && !c.q_in_registers ? c.num_stages - 1 : c.num_stages;
  const i32 kv_bytes = l.k_stages * l.k_stage_bytes + l.v_stages * l.v_stage_bytes;
  const i32 small_bytes =
      kSm90ItemSlots * kSm90ItemBytes + 2 * 8 * (kSm90ItemSlots + 2 + l.k_stages + l.v_stages);
  // A second stage of q, so that the next item's rows are there when this one ends.
  l.q_stages =
      !c.q_in_registers && kv_bytes + 2 * l.q_stage_bytes + small_bytes <= kSm90MaxSmemBytes ? 2
                                                                                             : 1;
  l.stages_out =
      l.q_stages == 2 && l.vo_panels <= l.qk_panels && c.boxes && size_bytes(c.o_dtype) == 2;
  l.q = 0;
  l.k = l.q + l.q_stages * l.q_stage_bytes;
  l.v = l.k + l.k_stages * l.k_stage_bytes;
  l.items = l.v + l.v_stages * l.v_stage_bytes;
  l.item_full = l.items + kSm90ItemSlots * kSm90ItemBytes;
  l.item_empty = l.item_full + 8 * kSm90ItemSlots;
  l.q_full = l.item_empty + 8 * kSm90ItemSlots;
  l.q_empty = l.q_full + 8 * l.q_stages;
  l.k_full = l.q_empty + 8 * l.q_stages;
  l.k_empty = l.k_full + 8 * l.k_stages;
  l.v_full = l.k_empty + 8 * l.k_stages;
  l.v_empty = l.v_full + 8 * l.v_stages;
  l.bytes = l.v_empty + 8 * l.v_stages;
  return l;
}

constexpr bool sm90_config_valid(const AttentionConfig& c) {
  return c.kernel == AttentionKernel::sm90 && c.head_dim_qk % 16 == 0 && c.head_dim_vo % 16 == 0 &&
         c.head_dim_qk <= 256 && c.head_dim_vo <= 256 && c.tile_q % 64 == 0 && c.tile_q <= 192 &&
         c.tile_kv % 16 == 0 && c.tile_kv <= 128 && c.warps_q * 16 == c.tile_q && c.warps_kv == 1 &&
         c.row_tiles == 1 && (c.aligned || !c.boxes) && c.num_stages >= 2 &&
         c.q_dtype == c.kv_dtype && size_bytes(c.q_dtype) == 2 &&
         sm90_layout(c).bytes <= kSm90MaxSmemBytes;
}

}  // namespace quire::kernels
