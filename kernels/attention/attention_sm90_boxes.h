// The producer of attention_sm90 where K, V and Q fit boxes: one warp asks the copy engine for q
// once an item and for tiles of k and v, in the order the consumers use them: K of a tile before V
// of the one before. Another warp looks up the items. Rows past the end of the tensors come as
// zeros; rows past the end of a request may hold anything, and the consumers clear those of v.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "tile/tma.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90BoxProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;

  __forceinline__ void load_q(const Sm90Item& t, int stage) const {
    if (tile::lane_index() != 0) return;
    tile::Mbarrier& full = smem.q_full(stage);
    full.arrive_expect(kLayout.qk_panels * params.attention.tile_rows * 128);
#pragma unroll
    for (int panel = 0; panel < kLayout.qk_panels; ++panel) {
      tile::tma::load_4d(smem.q(stage) + panel * (c.tile_q * 128), params.q, full, panel * 64, 0,
                         t.first_q_row + t.first_token, t.kv_head);
    }
  }

  // K or V of the tile that is number `count` of the block, tokens [token, token + tile_kv): boxes
  // of box_rows rows, one a lane. A page that is not there is outside the tensor: zeros.
  template <bool is_v>
  __forceinline__ void load_tile(const Sm90Item& t, int token, int count) const {
    constexpr int kStages = is_v ? kLayout.v_stages : kLayout.k_stages;
    constexpr int kPanels = is_v ? kLayout.vo_panels : kLayout.qk_panels;
    const AttentionParams& p = params.attention;
    const int stage = count % kStages;
    const int lane = tile::lane_index();
    const int panel = lane % kPanels, row = lane / kPanels * params.box_rows;
    int page = 0, slot = static_cast<int>(t.kv_base) + token + row;
    if (p.page_size > 0) {
      const int index = (token + row) / p.page_size;
      slot = token + row - index * p.page_size;
      page = token + row < t.kv_available && row < c.tile_kv ? p.kv_indices[t.kv_base + index]
                                                             : p.num_pages;
    }
    (is_v ? smem.v_empty(stage) : smem.k_empty(stage)).wait((count / kStages & 1) ^ 1);
    tile::Mbarrier& full = is_v ? smem.v_full(stage) : smem.k_full(stage);
    if (lane == 0) full.arrive_expect(is_v ? kLayout.v_stage_bytes : kLayout.k_stage_bytes);
    if (row < c.tile_kv) {
      tile::tma::load_4d(
          (is_v ? smem.v(stage) : smem.k(stage)) + panel * (c.tile_kv * 128) + row * 128,
          is_v ? params.v : params.k, full, panel * 64, slot, t.kv_head, page);
    }
  }

  __forceinline__ void load_items() const {
    int num_items = 0, num_tiles = 0;  // loaded so far
#pragma unroll 1
    while (true) {
      smem.item_full(num_items % kSm90ItemSlots).wait(num_items / kSm90ItemSlots & 1);
      const Sm90Item& t = smem.item(num_items % kSm90ItemSlots);
      const int stage = num_items % kLayout.q_stages;
      smem.q_empty(stage).wait((num_items / kLayout.q_stages & 1) ^ 1);
      if (t.num_tiles == 0) break;
      load_q(t, stage);
#pragma unroll 1
      for (int i = t.num_tiles - 1; i >= 0; --i, ++num_tiles) {
        load_tile<false>(t, t.kv_begin + i * c.tile_kv, num_tiles);
        if (num_tiles == 0) continue;
        // V is that of the tile before, which may be the last of an item.
        const bool first = i == t.num_tiles - 1;
        const Sm90Item& of = first ? smem.item((num_items - 1) % kSm90ItemSlots) : t;
        load_tile<true>(of, of.kv_begin + (first ? 0 : i + 1) * c.tile_kv, num_tiles - 1);
      }
      ++num_items;
    }
    if (num_tiles > 0) {
      const Sm90Item& t = smem.item((num_items - 1) % kSm90ItemSlots);
      load_tile<true>(t, t.kv_begin, num_tiles - 1);
    }
    if (tile::lane_index() == 0) smem.q_full(num_items % kLayout.q_stages).arrive();
  }

  __forceinline__ void run(int warp) const {
    if (warp == 0) load_items();
    if (warp == 1 && tile::lane_index() == 0) {
      int index = first_item(params.attention), count = 0;
#pragma unroll 1
      do {
        index = hand_out_item<c>(params, smem, index, count) + 1;
      } while (smem.item(count++ % kSm90ItemSlots).num_tiles > 0);
    }
  }
};

}  // namespace quire::kernels
