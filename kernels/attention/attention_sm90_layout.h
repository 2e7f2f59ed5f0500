// Shared memory, threads and registers of attention_sm90, known to the host and to the kernel.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

struct Sm90Layout {
  i32 consumers;  // warpgroups, 64 rows each; the others come before them
  // Warpgroups before the consumers: the producer, and where sm90_prepares_apart() one for that.
  i32 first_consumer;
  i32 threads;
  i32 preparers;  // warps that convert K and V, or transpose V
  i32 producer_registers, preparer_registers, consumer_registers;  // a thread
  // Does a consumer hold the q of its item in registers, so that the products read K alone from
  // shared memory: 1 to 2 % of 8 bits.
  bool holds_q;
  i32 q_stages, k_stages, v_stages;
  // Rows of a stage of q: the tile's, or 64 where each warpgroup has stages of its own.
  i32 q_stage_rows;
  // Of K and V as they come, before V is transposed or both are converted; 0: used as they come.
  i32 raw_k_stages, raw_v_stages;
  // Does the second consumer begin a tile after the first. Two that issue their products at the
  // same time take their exponentials at the same time too, while nothing is multiplied; a tile
  // that both wait for can bring them there, and they stay: 144 us instead of 102 for a chunk of
  // 512 tokens (H100), by chance of where the code lies.
  bool follows;
  // Output leaves through the stage of q of its item, which nothing else needs any more by then.
  bool stages_out;
  // Tiles are panels of 128 bytes a row, 64 columns or 128 of 8 bits; the last panel may be used in
  // part. The first three for q, k and v as they are multiplied, then as k and v come; out_panels:
  // of 64 columns always.
  i32 panel_columns, qk_panels, vo_panels;
  i32 kv_panel_columns, k_panels, v_panels;
  i32 out_panels;
  i32 q_stage_bytes, k_stage_bytes, v_stage_bytes, raw_k_stage_bytes, raw_v_stage_bytes;
  // Byte offsets.
  i32 q;      // [q_stages][qk_panels][tile_q][panel_columns]
  i32 k;      // [k_stages][qk_panels][tile_kv][panel_columns]
  i32 v;      // [v_stages][vo_panels][tile_kv][64]; 8 bits: [v_stages][head_dim_vo][128 tokens]
  i32 raw_k;  // [raw_k_stages][k_panels][tile_kv][128]
  i32 raw_v;  // [raw_v_stages][v_panels][tile_kv][128]
  i32 items;  // Sm90Item [kSm90ItemSlots]
  i32 item_full, item_empty;                              // Mbarrier [kSm90ItemSlots]
  i32 q_full, q_empty, k_full, k_empty, v_full, v_empty;  // Mbarrier [stages]
  i32 k_led;  // Mbarrier [k_stages], where `follows`: the first consumer has asked for its scores
  i32 raw_k_full, raw_k_empty, raw_v_full, raw_v_empty;  // Mbarrier [raw stages]
  i32 bytes;
};

constexpr i32 kSm90MaxSmemBytes = 227 * 1024;
constexpr i32 kSm90MaxGroupSize = 900;  // what packed_row() divides by exactly
constexpr i32 kSm90ItemBytes = 128;     // room for an Sm90Item
// An item's rows are written while the next one is worked on, the one after that is loaded and its
// successor looked up.
constexpr i32 kSm90ItemSlots = 4;

// Does V of 8 bits come to be transposed, for products of 8 bits?
constexpr bool sm90_transposes(const AttentionConfig& c) { return is_fp8(c.q_dtype); }
// Do K and V of 8 bits come to be converted to the 16 bits of q?
constexpr bool sm90_converts(const AttentionConfig& c) {
  return is_fp8(c.kv_dtype) && !is_fp8(c.q_dtype);
}

// Does a warpgroup of its own prepare K or V? Asking for boxes leaves two warps of the producer to
// transpose V, and the consumers the registers of a warpgroup.
constexpr bool sm90_prepares_apart(const AttentionConfig& c) {
  return sm90_converts(c) || (sm90_transposes(c) && !c.boxes);
}

constexpr void set_registers(const AttentionConfig& c, Sm90Layout& l) {
  // Multiples of 8; registers_fit(). Gathering and transposing take registers, boxes few.
  const bool one = l.consumers == 1, three = l.consumers == 3;
  const bool few = c.boxes && !sm90_transposes(c);
  l.producer_registers = one ? 160 : three ? (few ? 32 : 56) : few ? 40 : c.boxes ? 56 : 72;
  l.consumer_registers = one ? 240 : three ? (few ? 160 : 152) : few ? 232 : c.boxes ? 224 : 216;
  if (l.first_consumer == 2) {
    l.producer_registers = c.boxes ? 40 : one ? 96 : 64;
    l.preparer_registers = one ? 96 : c.boxes || three ? 56 : 48;
    l.consumer_registers = one ? 240 : three ? 120 : c.boxes ? 208 : 200;
  }
}

// Do the warpgroups together take no more than the block starts with? A multiprocessor has 64 K
// registers; a thread starts with a multiple of 8, ptxas gives at most 240. Who asks for more than
// the others have left waits for ever.
constexpr bool registers_fit(const Sm90Layout& l) {
  const i32 even = 65536 / l.threads / 8 * 8, start = even < 240 ? even : 240;
  const i32 together =
      l.producer_registers + l.preparer_registers + l.consumers * l.consumer_registers;
  return l.producer_registers <= start && l.preparer_registers <= start &&
         l.consumer_registers >= start && together <= l.threads / 128 * start;
}

constexpr Sm90Layout sm90_layout(const AttentionConfig& c) {
  Sm90Layout l{};
  const bool transposes = sm90_transposes(c), converts = sm90_converts(c);
  l.consumers = c.tile_q / 64;
  l.first_consumer = sm90_prepares_apart(c) ? 2 : 1;
  l.threads = 128 * (l.first_consumer + l.consumers);
  l.preparers = l.first_consumer == 2 ? 4 : transposes ? 2 : 0;
  l.holds_q = transposes && c.boxes && l.consumers == 2 && c.head_dim_qk <= 128;
  set_registers(c, l);
  const auto panels = [](i32 head_dim, i32 columns) { return (head_dim + columns - 1) / columns; };
  l.panel_columns = 128 / size_bytes(c.q_dtype);
  l.qk_panels = panels(c.head_dim_qk, l.panel_columns);
  l.vo_panels = panels(c.head_dim_vo, l.panel_columns);
  l.kv_panel_columns = 128 / size_bytes(c.kv_dtype);
  l.k_panels = panels(c.head_dim_qk, l.kv_panel_columns);
  l.v_panels = panels(c.head_dim_vo, l.kv_panel_columns);
  l.out_panels = panels(c.head_dim_vo, 64);
  l.q_stage_bytes = c.tile_q * l.qk_panels * 128;
  l.k_stage_bytes = c.tile_kv * l.qk_panels * 128;
  l.v_stage_bytes = transposes ? c.head_dim_vo * 128 : c.tile_kv * l.vo_panels * 128;
  l.raw_k_stage_bytes = converts ? c.tile_kv * l.k_panels * 128 : 0;
  l.raw_v_stage_bytes = transposes || converts ? c.tile_kv * l.v_panels * 128 : 0;
  // The third stage is K's, which stays until its tile is certain not to be computed again.
  const bool third = c.num_stages > 2;
  l.k_stages = c.num_stages;
  l.v_stages = third && !transposes ? c.num_stages - 1 : c.num_stages;
  if (transposes) l.v_stages = l.raw_v_stages = 2;
  if (converts) l.k_stages = l.v_stages = 2, l.raw_k_stages = l.raw_v_stages = c.num_stages - 1;
  const i32 kv_bytes = l.k_stages * l.k_stage_bytes + l.v_stages * l.v_stage_bytes +
                       l.raw_k_stages * l.raw_k_stage_bytes + l.raw_v_stages * l.raw_v_stage_bytes;
  const i32 small_bytes =
      kSm90ItemSlots * kSm90ItemBytes +
      2 * 8 * (kSm90ItemSlots + 3 + l.k_stages + l.v_stages + l.raw_k_stages + l.raw_v_stages);
  // Rows of 8 bits leave room for those of out where shared memory is large enough.
  const i32 out_bytes = c.tile_q * l.out_panels * 128;
  if (transposes && c.boxes && size_bytes(c.o_dtype) == 2 && out_bytes > l.q_stage_bytes &&
      kv_bytes + 2 * out_bytes + small_bytes <= kSm90MaxSmemBytes) {
    l.q_stage_bytes = out_bytes;
  }
  // A second stage of q, so that the next item's rows are there when this one ends.
  l.q_stages = kv_bytes + 2 * l.q_stage_bytes + small_bytes <= kSm90MaxSmemBytes ? 2 : 1;
  l.stages_out =
      l.q_stages == 2 && out_bytes <= l.q_stage_bytes && c.boxes && size_bytes(c.o_dtype) == 2;
  l.q_stage_rows = c.tile_q;
  // Or one for the warpgroup that is first to end an item: the other's next rows take what it
  // leaves.
  const i32 bytes_of_64 = l.q_stage_bytes / l.consumers;
  if (l.q_stages == 1 && l.consumers > 1 && c.boxes && !converts &&
      kv_bytes + l.q_stage_bytes + bytes_of_64 + small_bytes <= kSm90MaxSmemBytes) {
    l.q_stages = l.consumers + 1;
    l.q_stage_rows = 64;
    l.q_stage_bytes = bytes_of_64;
  }
  l.q = 0;
  l.k = l.q + l.q_stages * l.q_stage_bytes;
  l.v = l.k + l.k_stages * l.k_stage_bytes;
  l.raw_k = l.v + l.v_stages * l.v_stage_bytes;
  l.raw_v = l.raw_k + l.raw_k_stages * l.raw_k_stage_bytes;
  l.items = l.raw_v + l.raw_v_stages * l.raw_v_stage_bytes;
  l.item_full = l.items + kSm90ItemSlots * kSm90ItemBytes;
  l.item_empty = l.item_full + 8 * kSm90ItemSlots;
  l.q_full = l.item_empty + 8 * kSm90ItemSlots;
  l.q_empty = l.q_full + 8 * l.q_stages;
  l.k_full = l.q_empty + 8 * l.q_stages;
  l.k_empty = l.k_full + 8 * l.k_stages;
  l.v_full = l.k_empty + 8 * l.k_stages;
  l.v_empty = l.v_full + 8 * l.v_stages;
  l.raw_k_full = l.v_empty + 8 * l.v_stages;
  l.raw_k_empty = l.raw_k_full + 8 * l.raw_k_stages;
  l.raw_v_full = l.raw_k_empty + 8 * l.raw_k_stages;
  l.raw_v_empty = l.raw_v_full + 8 * l.raw_v_stages;
  // Where rows are gathered, head_dim 256 spills with it.
  l.follows = l.consumers == 2 && l.preparers == 0 && (c.boxes || c.head_dim_vo <= 128);
  l.k_led = l.raw_v_empty + 8 * l.raw_v_stages;
  l.bytes = l.k_led + (l.follows ? 8 * l.k_stages : 0);
  return l;
}

constexpr bool sm90_dtypes_valid(const AttentionConfig& c) {
  if (sm90_transposes(c)) {  // k-steps of the second product are 32 tokens
    return c.q_dtype == DType::f8e4m3 && c.kv_dtype == c.q_dtype && c.softmax &&
           c.tile_kv % 32 == 0 && c.tile_kv >= 64;
  }
  return size_bytes(c.q_dtype) == 2 &&
         (sm90_converts(c) ? c.tile_q <= 128 : c.kv_dtype == c.q_dtype);
}

constexpr bool sm90_config_valid(const AttentionConfig& c) {
  return c.kernel == AttentionKernel::sm90 && c.head_dim_qk % 16 == 0 && c.head_dim_vo % 16 == 0 &&
         c.head_dim_qk <= 256 && c.head_dim_vo <= 256 && c.tile_q % 64 == 0 && c.tile_q <= 192 &&
         c.tile_kv % 16 == 0 && c.tile_kv <= 128 && c.warps_q * 16 == c.tile_q && c.warps_kv == 1 &&
         c.row_tiles == 1 && (c.aligned || !c.boxes) && c.num_stages >= 2 && sm90_dtypes_valid(c) &&
         sm90_layout(c).bytes <= kSm90MaxSmemBytes;
}

}  // namespace quire::kernels
