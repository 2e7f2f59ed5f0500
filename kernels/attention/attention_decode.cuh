// Batch attention of few packed rows a request, at the speed of memory: decode, speculative decode.
//
// Grid:   num_workers thread blocks, one a multiprocessor; the block of worker w takes the items
//         [worker_indptr[w], worker_indptr[w + 1]).
// Block:  warps_kv warps that attend, and one that looks up the items to come and their q. Warps
//         that attend are alone until the item's end: each reads, multiplies and sums up its own
//         tiles of 16 or 32 tokens.
// Smem:   decode_layout(c).bytes: a ring of K and V tiles for each warp, q, items, states to join.
// Output: out and lse of every row of every item. Parts of split tiles go through partial_o and
//         partial_lse; the last block of a tile joins them, so that one launch is all.
// Needs:  sm_80, with c.boxes sm_90; counters that are zero, and are again at the end.
#pragma once

#include "attention/attention_decode_lookup.h"
#include "attention/attention_decode_merge.h"
#include "attention/attention_decode_prefetch.h"
#include "attention/attention_decode_reader.h"
#include "tile/cp_async.h"
#include "tile/launch_order.h"

namespace quire::kernels {

// The items [begin, begin + count) of the block.
template <AttentionConfig c>
__forceinline__ void decode_items(const AttentionDecodeParams& params, int begin, int count) {
  constexpr DecodeLayout kLayout = decode_layout(c);
  const AttentionParams& p = params.attention;
  const DecodeSmem<c> smem{tile::shared_memory()};
  const int warp = tile::warp_index();
  const bool computes = warp < kLayout.warps;
  DecodeLookUp<c> look_up{p, smem, begin, count};
  if (computes) {
    DecodeReader<c>::init_barriers(smem, warp);
  } else {
    look_up.first_items();
  }
  tile::sync_block();

  DecodeReader<c> reader(params, smem, warp, count);
  DecodeState<c> state;
  const DecodeMerge<c> merge{p, smem};
  // Rows that were not boxes lie as one box would.
  const int box_shift = c.boxes ? params.copy_shift : c.tile_kv == 32 ? 5 : 4;
#pragma unroll 1
  for (int n = 0; n < count; ++n) {
    const DecodeItem& item = smem.item(n);
    const WorkTile& t = item.tile;
    int left = computes ? reader.num_tiles(t) : 0;
    int token = reader.first_token(t);
    reader.more_items(DecodeLookUp<c>::num_made(n));
    // Filling the ring stands in one place: with a cold instruction cache it is what a small batch
    // waits for.
#pragma unroll 1
    for (bool first = true;; first = false) {
      if (computes) {
        reader.fill();
      } else if (n == 0) {
        look_up.first_q();
      }
      if (first) {
        tile::sync_block();  // q is there; nobody needs the states of the item before any more
        state.begin(smem.q(n));
      }
      if (left == 0) break;
      const u8* k = reader.wait();
      state.add({k, k + kLayout.k_tile_bytes, smem.q(n), smem.q_scale(n)}, p, item, token,
                box_shift);
      reader.release();
      token += kLayout.warps * c.tile_kv;
      --left;
    }
    if (!computes) look_up.step(n);
    merge.finish(item, state);
  }
}

template <AttentionConfig c>
__forceinline__ void attention_decode(const AttentionDecodeParams& params) {
  static_assert(decode_config_valid(c));
  const AttentionParams& p = params.attention;
  const int worker = decode_worker(params, tile::block_index());
  prefetch_first_item<c>(params, worker);
  if (!params.beside) {
    tile::wait_for_kernels_before();
    tile::let_next_kernel_start();
  }
  const i32* ends = p.worker_indptr + worker;
  const int begin = tile::min_of(tile::max_of(ends[0], 0), p.num_items);
  const int count = tile::min_of(tile::max_of(ends[1], 0), p.num_items) - begin;
  if (count > 0) decode_items<c>(params, begin, count);
  // Who waits for this kernel waits for the one beside it too. The next one does not start before.
  if (params.beside) tile::wait_for_kernels_before();
}

}  // namespace quire::kernels
