// The producer of attention_sm90 where boxes do not fit: pages that are not multiples of 16 rows,
// rows that are not aligned. Four warps gather q, k and v row by row in the order the consumers use
// them, absent rows as zeros.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "attention/copy_chunk.h"
#include "tile/warpgroup.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90RowProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;

  // This warp's share of the rows of a tile, 16 at a time. offset_of(row) is where a row begins in
  // `src`, in elements, or -1. The consumers fence: copies are not waited for here.
  template <int rows, int chunks, class OffsetOf>
  __forceinline__ void gather(u8* stage, tile::Mbarrier& full, const u16* src,
                              OffsetOf&& offset_of) const {
    const int lane = tile::lane_index();
#pragma unroll 1
    for (int first = warp * 16; first < rows; first += 4 * 16) {
      const i64 mine = offset_of(first + lane % 16);
      const u32 low = static_cast<u32>(mine), high = static_cast<u32>(mine >> 32);
#pragma unroll 2
      for (int i = lane; i < 16 * chunks; i += 32) {
        const int chunk = i % chunks, row = first + i / chunks;
        const u32 row_low = tile::warp::shuffle(low, i / chunks);
        const int row_high = static_cast<int>(tile::warp::shuffle(high, i / chunks));
        const i64 offset = (static_cast<i64>(row_high) << 32 | row_low) + chunk * 8;
        u8* dst = stage + chunk / 8 * (rows * 128) + row * 128 + (chunk % 8 ^ row % 8) * 16;
        copy_chunk<c.aligned>(reinterpret_cast<u16*>(dst), row_high < 0 ? src : src + offset,
                              row_high >= 0);
      }
    }
    if constexpr (c.aligned) {
      full.arrive_after_copies();
    } else {
      full.arrive();
    }
  }

  __forceinline__ void load_q(const Sm90Item& t, int stage) const {
    const AttentionParams& p = params.attention;
    gather<c.tile_q, c.head_dim_qk / 8>(
        smem.q(stage), smem.q_full(stage), static_cast<const u16*>(p.q), [&](int row) {
          if (row >= t.num_rows) return i64{-1};
          const PackedRow at = packed_row(t, row, p.group_size);
          return (t.first_q_row + at.token) * p.q_token_stride + at.head * p.q_head_stride;
        });
  }

  // K or V of the tile that is number `count` of the block.
  template <bool is_v>
  __forceinline__ void load_tile(const Sm90Item& t, int token, int count) const {
    const AttentionParams& p = params.attention;
    constexpr int kStages = is_v ? kLayout.v_stages : kLayout.k_stages;
    constexpr int kChunks = (is_v ? c.head_dim_vo : c.head_dim_qk) / 8;
    const int stage = count % kStages;
    (is_v ? smem.v_empty(stage) : smem.k_empty(stage)).wait((count / kStages & 1) ^ 1);
    const auto* tensor = static_cast<const u16*>(is_v ? p.v : p.k);
    const i64 head_stride = is_v ? p.v_head_stride : p.k_head_stride;
    gather<c.tile_kv, kChunks>(
        is_v ? smem.v(stage) : smem.k(stage), is_v ? smem.v_full(stage) : smem.k_full(stage),
        tensor + t.kv_head * head_stride, [&](int row) {
          const int at = token + row;
          if (at >= t.kv_available) return i64{-1};
          const i64 token_stride = is_v ? p.v_token_stride : p.k_token_stride;
          if (p.page_size == 0) return (t.kv_base + at) * token_stride;
          const int index = at / p.page_size;
          const u32 page = static_cast<u32>(p.kv_indices[t.kv_base + index]);
          if (page >= static_cast<u32>(p.num_pages)) return i64{-1};
          return page * (is_v ? p.v_page_stride : p.k_page_stride) +
                 (at - index * p.page_size) * token_stride;
        });
  }

  __forceinline__ void run() const {
    const bool looks_up = tile::thread_index() == 3 * 32;
    int index = 0;
    if (looks_up) index = hand_out_item<c>(params, smem, first_item(params.attention), 0);
    int num_items = 0, num_tiles = 0;  // loaded so far
#pragma unroll 1
    for (;; ++num_items) {
      smem.item_full(num_items % kSm90ItemSlots).wait(num_items / kSm90ItemSlots & 1);
      const Sm90Item& t = smem.item(num_items % kSm90ItemSlots);
      const int stage = num_items % kLayout.q_stages;
      smem.q_empty(stage).wait((num_items / kLayout.q_stages & 1) ^ 1);
      if (t.num_tiles == 0) break;
      load_q(t, stage);
#pragma unroll 1
      for (int i = t.num_tiles - 1; i >= 0; --i, ++num_tiles) {
        const bool first = i == t.num_tiles - 1;
        load_tile<false>(t, t.kv_begin + i * c.tile_kv, num_tiles);
        if (num_tiles > 0) {  // V is that of the tile before, which may be the last of an item
          const Sm90Item& of = first ? smem.item((num_items - 1) % kSm90ItemSlots) : t;
          load_tile<true>(of, of.kv_begin + (first ? 0 : i + 1) * c.tile_kv, num_tiles - 1);
        }
        if (first && looks_up) index = hand_out_item<c>(params, smem, index + 1, num_items + 1);
      }
    }
    if (num_tiles > 0) {
      const Sm90Item& t = smem.item((num_items - 1) % kSm90ItemSlots);
      load_tile<true>(t, t.kv_begin, num_tiles - 1);
    }
    smem.q_full(num_items % kLayout.q_stages).arrive();
  }
};

}  // namespace quire::kernels
