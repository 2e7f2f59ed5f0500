// The producer of attention_sm90 where q, k and v fit boxes. Four warps, a role each: look up the
// items, and ask the copy engine for q, K and V; or two, where the others transpose V. Rows past
// the end of the tensors come as zeros; rows past the end of a request may hold anything, and who
// reads V clears those.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "tile/tma.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90BoxProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;

  // Stages of q an item takes, and the first token of one.
  static constexpr int kParts = c.tile_q / kLayout.q_stage_rows;
  __forceinline__ int first_token(const Sm90Item& t, int part) const {
    const int token = t.first_q_row + t.first_token;
    if constexpr (kParts == 1) return token;
    return token + part * (kLayout.q_stage_rows / params.attention.group_size);
  }

  // The rows of item number `count`. By one thread, as what follows.
  __forceinline__ void load_q(const Sm90Item& t, int count) const {
    const int part_rows = params.attention.tile_rows / kParts;
    if (kLayout.q_stages < 2 * kParts && t.num_tiles > 0) {  // it cannot come before it is needed
      for (int part = 0; part < kParts; ++part) {
        for (int panel = 0; panel < kLayout.qk_panels; ++panel) {
          tile::tma::prefetch_4d(params.q, panel * kLayout.panel_columns, 0, first_token(t, part),
                                 t.kv_head);
        }
      }
    }
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int turn = count * kParts + part, stage = turn % kLayout.q_stages;
      smem.q_empty(stage).wait((turn / kLayout.q_stages & 1) ^ 1);
      tile::Mbarrier& full = smem.q_full(stage);
      if (t.num_tiles == 0) {
        full.arrive();
        continue;
      }
      full.arrive_expect(kLayout.qk_panels * part_rows * 128);
#pragma unroll
      for (int panel = 0; panel < kLayout.qk_panels; ++panel) {
        tile::tma::load_4d(smem.q(stage) + panel * (kLayout.q_stage_rows * 128), params.q, full,
                           panel * kLayout.panel_columns, 0, first_token(t, part), t.kv_head);
      }
    }
  }
  __forceinline__ void load_all_q() const {
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      load_q(t, count);
      if (t.num_tiles == 0) return;
    }
  }

  template <bool is_v>
  static constexpr int kPanels = is_v ? kLayout.v_panels : kLayout.k_panels;
  // Tiles come in boxes of box_rows rows of a panel, one a lane. From row tile_kv on: none.
  struct Box {
    int row, panel;
  };
  __forceinline__ Box box_of(int lane, int panels) const {
    return {lane / panels * params.box_rows, lane % panels};
  }
  // A page, and the row of it that a box begins with.
  struct Place {
    int page, slot;
  };
  // The place of row `row` of a tile, and what leads from there to the tile before without dividing
  // or asking for the item again: what producers issue the consumers wait for (pages of 16, b1
  // s16384 causal: 0.95 to 0.96 of contiguous speed, pages of 128: 0.95 to 0.98; H100).
  struct Walk {
    const i32* ids;  // of the request's pages; null: ragged, all in one page
    int entry, slot;
    int token, end;  // from `end` on tokens are not there
    int entries, slots, page_rows;
  };
  __forceinline__ Walk walk_from(const Sm90Item& t, int tile, int row) const {
    const AttentionParams& p = params.attention;
    const int token = t.kv_begin + tile * c.tile_kv + row;
    Walk w{nullptr, 0, t.kv_base + token, token, 0, 0, -c.tile_kv, 0x7fffffff};
    if (p.page_size > 0) {
      w.ids = p.kv_indices + t.kv_base;
      w.entry = params.page_size.quotient(token);
      w.slot = token - w.entry * p.page_size;
      w.end = row < c.tile_kv ? t.kv_available : 0;
      w.page_rows = p.page_size;
      w.entries = params.page_size.quotient(c.tile_kv + p.page_size - 1);
      w.slots = w.entries * p.page_size - c.tile_kv;
    }
    return w;
  }
  // A page that is not there is outside the tensor: zeros.
  __forceinline__ Place place_of(const Walk& w) const {
    if (w.ids == nullptr) return {0, w.slot};
    return {w.token < w.end ? w.ids[w.entry] : params.attention.num_pages, w.slot};
  }
  static __forceinline__ void walk_back(Walk& w) {
    w.token -= c.tile_kv;
    w.entry -= w.entries;
    w.slot += w.slots;
    if (w.slot >= w.page_rows) {
      w.slot -= w.page_rows;
      ++w.entry;
    }
  }
  // The tile of which this lane's box begins at `place`.
  template <bool is_v>
  __forceinline__ void load_tile(const KvStage& to, u32 parity, const Box& box, const Place& place,
                                 int kv_head) const {
    to.empty.wait(parity ^ 1);
    if (tile::lane_index() == 0) to.full.arrive_expect(kPanels<is_v> * c.tile_kv * 128);
    if (box.row < c.tile_kv) {
      tile::tma::load_4d(to.data + box.panel * (c.tile_kv * 128) + box.row * 128,
                         is_v ? params.v : params.k, to.full, box.panel * kLayout.kv_panel_columns,
                         place.slot, kv_head, place.page);
    }
  }

  // All tiles of K or of V, in the order of the items.
  template <bool is_v>
  __forceinline__ void load_kv() const {
    const Box box = box_of(tile::lane_index(), kPanels<is_v>);
    Ring<Sm90Smem<c>::template kv_stages<is_v>()> ring;
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int num_tiles = t.num_tiles;  // after the last one the item may be gone
      if (num_tiles == 0) return;
      const int kv_head = t.kv_head;
      Walk walk = walk_from(t, num_tiles - 1, box.row);
      tile::sync_warp();  // the item may go when consumers have its tiles: lanes without boxes too
#pragma unroll 1
      for (int left = num_tiles; left > 0; --left) {
        load_tile<is_v>(smem.template kv_stage<is_v>(ring.stage), ring.parity, box, place_of(walk),
                        kv_head);
        ring.advance();
        walk_back(walk);
      }
    }
  }

  __forceinline__ void look_up() const {
    int index = first_item(params.attention), count = 0;
#pragma unroll 1
    do {
      index = hand_out_item<c>(params, smem, index, count) + 1;
    } while (smem.item(count++ % kSm90ItemSlots).num_tiles > 0);
  }

  // Those of K and V by one warp: boxes of K are of its first 16 lanes, of V of the others.
  __forceinline__ void load_keys_and_values() const {
    static_assert(tile::max_of(kPanels<false>, kPanels<true>) * (c.tile_kv / 16) <= 16);
    const bool is_v = tile::lane_index() >= 16;
    const Box box = box_of(tile::lane_index() % 16, is_v ? kPanels<true> : kPanels<false>);
    const Box k_box{is_v ? c.tile_kv : box.row, box.panel};
    const Box v_box{is_v ? box.row : c.tile_kv, box.panel};
    Ring<Sm90Smem<c>::template kv_stages<false>()> keys;
    Ring<Sm90Smem<c>::template kv_stages<true>()> values;
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int num_tiles = t.num_tiles;
      if (num_tiles == 0) return;
      const int kv_head = t.kv_head;
      Walk walk = walk_from(t, num_tiles - 1, box.row);
      tile::sync_warp();  // as in load_kv()
#pragma unroll 1
      for (int left = num_tiles; left > 0; --left) {
        const Place place = place_of(walk);
        load_tile<false>(smem.template kv_stage<false>(keys.stage), keys.parity, k_box, place,
                         kv_head);
        load_tile<true>(smem.template kv_stage<true>(values.stage), values.parity, v_box, place,
                        kv_head);
        keys.advance();
        values.advance();
        walk_back(walk);
      }
    }
  }

  // Items, and the q of each, by one thread. Two items are looked up before they are needed: the
  // next ones may have one tile each.
  __forceinline__ void load_items() const {
    int index = first_item(params.attention), known = 0;
#pragma unroll 1
    for (int count = 0;; ++count) {
      for (; known <= count; ++known) index = hand_out_item<c>(params, smem, index, known) + 1;
      const Sm90Item& t = smem.item(count % kSm90ItemSlots);
      load_q(t, count);
      if (t.num_tiles == 0) return;
      for (; known <= count + 2; ++known) index = hand_out_item<c>(params, smem, index, known) + 1;
    }
  }

  __forceinline__ void run(int warp) const {
    const bool leader = tile::lane_index() == 0;
    if (warp == 0) load_kv<false>();
    if (warp == 1) load_kv<true>();
    if (warp == 2 && leader) load_all_q();
    if (warp == 3 && leader) look_up();
  }

  // The same by two warps.
  __forceinline__ void run_as_two(int warp) const {
    if (warp == 0) load_keys_and_values();
    if (warp == 1 && tile::lane_index() == 0) load_items();
  }
};

}  // namespace quire::kernels
