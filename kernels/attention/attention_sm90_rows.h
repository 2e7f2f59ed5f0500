// The producer of attention_sm90 where boxes do not fit: pages that are not multiples of 16 rows,
// rows that are not aligned. Four warps gather q, K and V row by row in the order the consumers use
// them, K of a tile before V of the one before; absent rows as zeros.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "attention/copy_chunk.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90RowProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr int kBlock = 32;  // rows a warp gathers at a time, one looked up by each lane

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;

  // The block of rows from `first` on of a tile of `rows` rows. source: this lane's row of it, or
  // null.
  template <int rows, int chunks>
  __forceinline__ void gather(u8* stage, int first, const u16* source) const {
    const int lane = tile::lane_index();
    const auto address = reinterpret_cast<u64>(source);
    const u32 low = static_cast<u32>(address), high = static_cast<u32>(address >> 32);
    constexpr int kCopies = kBlock * chunks / 32;
#pragma unroll 4
    for (int i = 0; i < kCopies; ++i) {
      const int chunk = (i * 32 + lane) % chunks, in_block = (i * 32 + lane) / chunks;
      const u64 from = static_cast<u64>(tile::warp::shuffle(high, in_block)) << 32 |
                       tile::warp::shuffle(low, in_block);
      const int row = first + in_block;
      if (rows % kBlock != 0 && row >= rows) continue;
      u8* dst = stage + chunk / 8 * (rows * 128) + row * 128 + (chunk % 8 ^ row % 8) * 16;
      const auto* src = reinterpret_cast<const u16*>(from) + chunk * 8;
      copy_chunk<c.aligned>(reinterpret_cast<u16*>(dst),
                            from == 0 ? static_cast<const u16*>(params.attention.q) : src,
                            from != 0);
    }
  }
  // The consumers fence: copies are not waited for here.
  static __forceinline__ void announce(tile::Mbarrier& full) {
    if constexpr (c.aligned) {
      full.arrive_after_copies();
    } else {
      full.arrive();
    }
  }

  __forceinline__ void load_q(const Sm90Item& t, int stage) const {
    const AttentionParams& p = params.attention;
#pragma unroll 1
    for (int first = warp * kBlock; first < c.tile_q; first += 4 * kBlock) {
      const int row = first + tile::lane_index();
      const u16* source = nullptr;
      if (row < t.num_rows) {
        const PackedRow at = packed_row(t, row, p.group_size);
        source = static_cast<const u16*>(p.q) + (t.first_q_row + at.token) * p.q_token_stride +
                 at.head * p.q_head_stride;
      }
      gather<c.tile_q, c.head_dim_qk / 8>(smem.q(stage), first, source);
    }
    announce(smem.q_full(stage));
  }

  // Where this lane's row of a tile is: the page, -1 for none, and the row in it.
  struct Place {
    int page, row;
  };
  __forceinline__ Place find(const Sm90Item& t, int tile) const {
    const AttentionParams& p = params.attention;
    const int at = t.kv_begin + tile * c.tile_kv + warp * kBlock + tile::lane_index();
    if (at >= t.kv_available || tile < 0) return {-1, 0};
    if (p.page_size == 0) return {0, static_cast<int>(t.kv_base) + at};
    const int index = at / p.page_size;
    const int page = p.kv_indices[t.kv_base + index];
    return {page < p.num_pages ? page : -1, at - index * p.page_size};
  }

  template <bool is_v>
  __forceinline__ void load_tile(const Ring<is_v ? kLayout.v_stages : kLayout.k_stages>& ring,
                                 const Place& place, int kv_head) const {
    const AttentionParams& p = params.attention;
    (is_v ? smem.v_empty(ring.stage) : smem.k_empty(ring.stage)).wait(ring.parity ^ 1);
    const u16* source = nullptr;
    if (place.page >= 0) {
      source = static_cast<const u16*>(is_v ? p.v : p.k) +
               place.page * (is_v ? p.v_page_stride : p.k_page_stride) +
               place.row * (is_v ? p.v_token_stride : p.k_token_stride) +
               kv_head * (is_v ? p.v_head_stride : p.k_head_stride);
    }
    if (warp * kBlock < c.tile_kv) {
      gather<c.tile_kv, (is_v ? c.head_dim_vo : c.head_dim_qk) / 8>(
          is_v ? smem.v(ring.stage) : smem.k(ring.stage), warp * kBlock, source);
    }
    announce(is_v ? smem.v_full(ring.stage) : smem.k_full(ring.stage));
  }

  __forceinline__ void run() const {
    const bool looks_up = tile::thread_index() == 3 * 32;
    int index = 0;
    if (looks_up) index = hand_out_item<c>(params, smem, first_item(params.attention), 0);
    Ring<kLayout.k_stages> k_ring;
    Ring<kLayout.v_stages> v_ring;
    Place before{-1, 0};  // of the tile before, whose V is due; it may be the last of an item
    int head_before = -1;
#pragma unroll 1
    for (int count = 0;; ++count) {
      smem.item_full(count % kSm90ItemSlots).wait(count / kSm90ItemSlots & 1);
      const Sm90Item& t = smem.item(count % kSm90ItemSlots);
      const int stage = count % kLayout.q_stages;
      smem.q_empty(stage).wait((count / kLayout.q_stages & 1) ^ 1);
      if (t.num_tiles > 0) load_q(t, stage);
      Place place = find(t, t.num_tiles - 1);
#pragma unroll 1
      for (int i = t.num_tiles - 1; i >= 0; --i) {
        const Place next = find(t, i - 1);  // in flight while this tile is
        load_tile<false>(k_ring, place, t.kv_head);
        k_ring.advance();
        if (head_before >= 0) {
          load_tile<true>(v_ring, before, head_before);
          v_ring.advance();
        }
        before = place;
        head_before = t.kv_head;
        place = next;
        if (i == t.num_tiles - 1 && looks_up) {
          index = hand_out_item<c>(params, smem, index + 1, count + 1);
        }
      }
      if (t.num_tiles > 0) continue;
      if (head_before >= 0) load_tile<true>(v_ring, before, head_before);
      smem.q_full(stage).arrive();
      return;
    }
  }
};

}  // namespace quire::kernels
