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
#include "attention/attention_decode_reader.h"
#include "tile/cp_async.h"

namespace quire::kernels {

// The worker that a block is. Plans lay the workers along a line, one KV head after the other; here
// neighbouring blocks, which keep pace with each other, get those at the same place of every head.
// So all heads of a page are read at about the same time, and its rows of memory are opened once.
inline int decode_worker(const AttentionDecodeParams& params, int block) {
  const int heads = params.attention.num_kv_heads, per_head = params.workers_per_head;
  if (block >= per_head * heads) return block;
  const int place = static_cast<int>(static_cast<u32>(block) / static_cast<u32>(heads));
  return (block - place * heads) * per_head + place;
}

// Where an item's tokens are takes four loads that depend on each other. Most of what they read is
// asked for at once, so that they find it in L2: a line of 128 bytes a lane, an array a warp.
inline void prefetch_metadata(const AttentionParams& p, int worker) {
  constexpr int kLineInts = 32;
  const int first = tile::lane_index() * kLineInts;
  const auto prefetch = [first](const i32* array, int count) {
    if (array && first < count) tile::prefetch_to_l2(array + first);
  };
  switch (tile::warp_index()) {
    case 0: {
      // Blocks have about as many items each; a wrong guess, or one that runs over, does no harm.
      const u32 num_items = static_cast<u32>(p.num_items);
      const u32 guess = static_cast<u32>(worker) * num_items / static_cast<u32>(p.num_workers);
      const u32 item = guess + 4 * static_cast<u32>(tile::lane_index()) - 4;
      if (tile::lane_index() < 4 && item < num_items) tile::prefetch_to_l2(p.items + item);
      return;
    }
    case 1:
      prefetch(p.qo_indptr, p.batch_size + 1);
      return prefetch(p.kv_lens, p.batch_size);
    case 2:
      prefetch(p.kv_indptr, p.batch_size + 1);
      return prefetch(p.kv_indices, p.num_indices);
    default:
      return;
  }
}

template <AttentionConfig c>
__forceinline__ void attention_decode(const AttentionDecodeParams& params) {
  static_assert(decode_config_valid(c));
  constexpr DecodeLayout kLayout = decode_layout(c);
  const AttentionParams& p = params.attention;
  const DecodeSmem<c> smem{tile::shared_memory()};
  const int worker = decode_worker(params, tile::block_index());
  prefetch_metadata(p, worker);
  const i32* ends = p.worker_indptr + worker;
  const int begin = tile::min_of(tile::max_of(ends[0], 0), p.num_items);
  const int count = tile::min_of(tile::max_of(ends[1], 0), p.num_items) - begin;
  if (count <= 0) return;

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

}  // namespace quire::kernels
