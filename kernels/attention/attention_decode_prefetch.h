// What a block of attention_decode does before the kernels before it have ended: it brings what it
// will ask for first to L2, while they still run, or while it would wait for the launch.
//
// Arrays may hold anything yet: what is read here leads to prefetches inside the tensors and to
// nothing else, and is read again afterwards.
#pragma once

#include "attention/attention_decode_layout.h"
#include "attention/attention_decode_types.h"
#include "tile/cp_async.h"
#include "tile/uncached.h"

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

// A row of K or V that begins `offset` elements after `tensor`.
template <int head_dim, DType dtype>
inline void prefetch_row(const void* tensor, i64 offset) {
  constexpr int kLineBytes = 128;
  const u8* row = static_cast<const u8*>(tensor) + offset * size_bytes(dtype);
#pragma unroll
  for (int byte = 0; byte < head_dim * size_bytes(dtype); byte += kLineBytes) {
    tile::prefetch_to_l2(row + byte);
  }
}

// The first tile of every warp, of the block's first item. As many as the rings hold do no better
// behind another decode kernel, and 0.8 us worse behind one that takes 1 us (H100).
template <AttentionConfig c>
inline void prefetch_first_tokens(const AttentionParams& p, int worker) {
  constexpr DecodeLayout kLayout = decode_layout(c);
  constexpr int kTokens = kLayout.warps * c.tile_kv;
  const auto is_below = [](int i, i64 count) { return i >= 0 && i < count; };
  const int index = tile::load_uncached(p.worker_indptr + worker);
  if (!is_below(index, p.num_items)) return;
  const WorkItem* item = p.items + index;
  const int request = tile::load_uncached(&item->request);
  const int kv_head = tile::load_uncached(&item->kv_head);
  const int begin = tile::load_uncached(&item->kv_begin);
  const int end = tile::load_uncached(&item->kv_end);
  if (!is_below(request, p.batch_size) || !is_below(kv_head, p.num_kv_heads)) return;
  if (begin < 0 || end < 0) return;
  const i64 base = tile::load_uncached(p.kv_indptr + request);
#pragma unroll 1
  for (int i = tile::thread_index(); i < kTokens && i < end - begin; i += 32 * kLayout.warps) {
    i64 page = 0, slot = base + begin + i;
    if (p.page_size > 0) {
      const int entry = (begin + i) / p.page_size;
      slot = begin + i - entry * p.page_size;
      if (base < 0 || base + entry >= p.num_indices) return;
      page = tile::load_uncached(p.kv_indices + base + entry);
      if (page < 0 || page >= p.num_pages) continue;
    } else if (slot < 0 || slot >= p.total_kv) {
      return;
    }
    prefetch_row<c.head_dim_qk, c.kv_dtype>(
        p.k, page * p.k_page_stride + slot * p.k_token_stride + kv_head * p.k_head_stride);
    prefetch_row<c.head_dim_vo, c.kv_dtype>(
        p.v, page * p.v_page_stride + slot * p.v_token_stride + kv_head * p.v_head_stride);
  }
}

template <AttentionConfig c>
__forceinline__ void prefetch_first_item(const AttentionDecodeParams& params, int worker) {
  const AttentionParams& p = params.attention;
  prefetch_metadata(p, worker);
  // The warp that looks up goes on at once: without a kernel before, the others are no later.
  // A window may hide the item's first tokens.
  if (tile::warp_index() == decode_layout(c).warps || p.window_left >= 0) return;
  prefetch_first_tokens<c>(p, worker);
}

}  // namespace quire::kernels
