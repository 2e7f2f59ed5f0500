// The steps of a consumer warpgroup of attention_sm90.
#pragma once

#include "attention/attention_sm90_products.h"

namespace quire::kernels {

template <AttentionConfig c>
__forceinline__ void Sm90Consumer<c>::run() {
  if constexpr (kOwnRows) q_ring.stage = warpgroup;
  smem.q_full(q_ring.stage).wait(0);
  slot = 0;
  if (smem.item(slot).num_tiles == 0) return;
  begin_item(smem.item(slot));
  --tile;
  if (warpgroup == kWarpgroups - 1) pass_turn();

  v_rows = rows_of_last();
  wait_keys();
  take_turn();
  fence_rows();
  tile::wgmma::fence();
  issue_scores();
  lead();
  pass_turn();
  tile::wgmma::wait<0>();
  tile::wgmma::pin(s);
  release(smem.k_empty(0));
  k_ring.advance();
  shape_scores(smem.item(slot));
  update_reference();
  make_terms();
  if (tile == 0) end_item();

  int old_slot = slot, old_stage = 0;
  bool wrote = false;                      // has the step before written an item
  bool accumulate = false;                 // does the pending P V add to O
  bool moves = kFp8 || needs_reference();  // must a tile's maximum be taken before its exponentials
  rows.sum[0] = tile_sum[0];
  rows.sum[1] = tile_sum[1];
  while (true) {
    const bool item_ends = tile == 0;
    if (wrote) {
      release_written(old_slot, old_stage);
      wrote = false;
    }
    if (item_ends) {
      old_stage = q_ring.stage;
      next_rows();
      old_slot = slot;
      slot = (slot + 1) % kSm90ItemSlots;
      smem.q_full(q_ring.stage).wait(q_ring.parity);
      const Sm90Item& next = smem.item(slot);
      if (next.num_tiles == 0) break;
      begin_item(next);
      moves = true;
    }
    --tile;

    if (kClearsValues && v_rows < c.tile_kv) [[unlikely]]
      clear_values();
    v_rows = item_ends ? rows_of_last() : c.tile_kv;
    take_turn();
    wait_keys();
    smem.v_full(v_ring.stage).wait(v_ring.parity);
    fence_rows();
    tile::wgmma::fence();
    issue_scores();
    lead();
    pass_turn();
    issue_output(accumulate);
    const RowState finished = rows;
    if (item_ends) rows = RowState{};
    tile::wgmma::wait<1>();
    tile::wgmma::pin(s);

    if (moves || !is_plain()) [[unlikely]] {
      shape_scores(smem.item(slot));
      if (moves) update_reference();
    }
    make_early_terms();
    if constexpr (c.softmax) tile::wgmma::hold(tile_sum[0] + tile_sum[1]);
    tile::wgmma::wait<0>();
    tile::wgmma::pin(o);
    tile::wgmma::pin(s);
    release(smem.v_empty(v_ring.stage));
    v_ring.advance();
    make_late_terms();
    if (moves || needs_reference()) [[unlikely]] {
      if (item_ends) {
        write(smem.item(old_slot), finished, old_stage);
        wrote = true;
      } else if (moves) {
        rescale_output();
      }
      if constexpr (kDelayedReference || kFp8) {
        if (out_of_range()) repair(smem.item(slot));
      }
      moves = kFp8 ? item_ends : needs_reference();
    }
    rows.sum[0] += tile_sum[0];
    rows.sum[1] += tile_sum[1];
    release(smem.k_empty(k_ring.stage));
    k_ring.advance();
    if (tile == 0) end_item();
    accumulate = !item_ends;
  }

  if (kClearsValues && v_rows < c.tile_kv) clear_values();
  smem.v_full(v_ring.stage).wait(v_ring.parity);
  take_turn();
  fence_rows();
  tile::wgmma::fence();
  issue_output(accumulate);
  pass_turn();
  tile::wgmma::wait<0>();
  tile::wgmma::pin(o);
  write(smem.item(old_slot), rows, old_stage);
  if (kLayout.stages_out && tile::lane_index() == 0) tile::tma::wait_stores_read();
  if (warpgroup == 0) take_turn();  // as many turns taken as passed
}

}  // namespace quire::kernels
