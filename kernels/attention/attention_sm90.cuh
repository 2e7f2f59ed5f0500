// Batch attention by TMA and WGMMA: Hopper (sm_90a).
//
// Grid:   num_workers thread blocks, one a multiprocessor; block w takes the work items
//         [worker_indptr[w], worker_indptr[w + 1]).
// Block:  a producer warpgroup, of which two warps may transpose V; where sm90_prepares_apart() one
//         that converts K and V or transposes V; then tile_q / 64 consumer warpgroups of 64 packed
//         rows each.
// Smem:   sm90_layout(c).bytes: rings of q, k and v, the items in flight, barriers.
// Output: out and lse, or partial_o and partial_lse of split tiles; every row of every item.
// Needs:  sm_90a; q, k, v of one 16-bit type or f8e4m3, or k and v of 8 bits; c.aligned: rows of q,
//         k, v, out 16-byte aligned.
#pragma once

#include "attention/attention_sm90_boxes.h"
#include "attention/attention_sm90_convert.h"
#include "attention/attention_sm90_rows.h"
#include "attention/attention_sm90_steps.h"
#include "attention/attention_sm90_transpose.h"

namespace quire::kernels {

template <AttentionConfig c>
__forceinline__ void attention_sm90(const AttentionSm90Params& params) {
  static_assert(sm90_config_valid(c));
  constexpr Sm90Layout kLayout = sm90_layout(c);
  static_assert(registers_fit(kLayout));
  const Sm90Smem<c> smem{tile::shared_memory()};
  if (tile::thread_index() == 0) smem.init_barriers();
  if (params.attention.tile_rows < c.tile_q) {  // rows that no box brings must be numbers
    auto* chunks = reinterpret_cast<tile::Vec<u32, 4>*>(smem.q(0));
    const int end = kLayout.q_stages * kLayout.q_stage_bytes / 16;
    for (int i = tile::thread_index(); i < end; i += kLayout.threads) chunks[i] = {};
    tile::fence_async_proxy();
  }
  tile::sync_block();

  const int warp = tile::uniform_warp_index();
  if (warp < 4) {
    tile::release_registers<kLayout.producer_registers>();
    if constexpr (sm90_transposes(c) && !sm90_prepares_apart(c)) {
      if (warp < 2) {
        Sm90BoxProducer<c>{params, smem}.run_as_two(warp);
      } else {
        Sm90Transposer<c>{params, smem, warp - 2}.run();
      }
    } else if constexpr (c.boxes) {
      Sm90BoxProducer<c>{params, smem}.run(warp);
    } else {
      Sm90RowProducer<c>{params, smem, warp}.run();
    }
  } else if (warp >= 4 * kLayout.first_consumer) {
    tile::take_registers<kLayout.consumer_registers>();
    float to_base2 = 0.f;
    if constexpr (!has_head_scales(c)) to_base2 = Logits<c>::to_base2(params.attention);
    const int warpgroup = warp / 4 - kLayout.first_consumer;
    Sm90Consumer<c>{params, smem, warpgroup, warp % 4, to_base2}.run();
  } else if constexpr (sm90_transposes(c) && sm90_prepares_apart(c)) {
    tile::release_registers<kLayout.preparer_registers>();
    Sm90Transposer<c>{params, smem, warp % 4}.run();
  } else if constexpr (sm90_converts(c)) {
    tile::release_registers<kLayout.preparer_registers>();
    Sm90Converter<c>{params, smem, warp % 4}.run();
  }
}

}  // namespace quire::kernels
