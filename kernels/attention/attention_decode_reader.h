// How a warp of attention_decode gets its tiles of K and V: a ring of its own, filled by itself,
// items ahead of what it computes.
//
// Tiles lie on the grid of tile_kv tokens of a request; tile i of an item is of warp i % warps.
// What a lane copies is looked up for up to 32 copies at a time, one batch ahead. Tokens that are
// not there, pages outside the pool too, come as zeros; tokens of others on a tile are for the
// masks.
#pragma once

#include "attention/attention_decode_smem.h"
#include "attention/copy_chunk.h"
#include "tile/tma.h"
#include "tile/word.h"

namespace quire::kernels {

template <AttentionConfig c>
struct DecodeReader {
  static constexpr DecodeLayout kLayout = decode_layout(c);
  static constexpr int kBytes = size_bytes(c.kv_dtype);  // of an element

  // Lane l: where copy l of the next tiles begins; page -1: nowhere.
  struct Batch {
    int page, slot, kv_head, num_tiles;
  };

  const AttentionDecodeParams& params;
  const DecodeSmem<c> smem;
  const int warp;
  const tile::CachePolicy policy;  // of boxes
  const int count;                 // of the block's items
  int num_made = 0;                // items below it can be read
  int next_item = 0;
  // Of item next_item - 1: tiles of this warp that are still to be looked up, from `token` on.
  int tiles_left = 0, token = 0, kv_head = 0, kv_base = 0, kv_available = 0;
  Batch now{}, ahead{};
  int tile_of_now = 0;
  // The ring: where the next tile goes, how many are on their way, the oldest.
  int fill_stage = 0, in_flight = 0, stage = 0;
  u32 parity = 0;
  bool idle = true;

  __forceinline__ DecodeReader(const AttentionDecodeParams& of, const DecodeSmem<c>& in, int index,
                               int num_items)
      : params(of), smem(in), warp(index), policy(policy_of(of.eviction)), count(num_items) {}

  static __forceinline__ void init_barriers(const DecodeSmem<c>& smem, int warp) {
    if constexpr (c.boxes) {
      if (tile::lane_index() >= c.num_stages) return;
      barrier(smem, warp, tile::lane_index()).init(1);
      tile::fence_mbarrier_init();
    }
  }

  // Tiles of an item that this warp has.
  __forceinline__ int num_tiles(const WorkTile& t) const {
    if (t.kv_begin >= t.kv_end) return 0;
    const int tiles = (t.kv_end - 1) / c.tile_kv - t.kv_begin / c.tile_kv + 1;
    return (tiles - warp + kLayout.warps - 1) / kLayout.warps;
  }
  __forceinline__ int first_token(const WorkTile& t) const {
    return (t.kv_begin / c.tile_kv + warp) * c.tile_kv;
  }

  // Asks for tiles until the ring is full.
  __forceinline__ void fill() {
#pragma unroll 1
    while (in_flight < c.num_stages && !idle) in_flight += ask();
  }
  // There are more items to read.
  __forceinline__ void more_items(int made) {
    num_made = tile::min_of(made, count);
    idle = false;
  }
  // Waits for the oldest tile.
  __forceinline__ const u8* wait() const {
    if constexpr (c.boxes) {
      barrier(smem, warp, stage).wait(parity);
    } else {
      if (in_flight == c.num_stages) {
        tile::cp_async::wait<c.num_stages - 1>();
      } else {
        tile::cp_async::wait<0>();
      }
      tile::sync_warp();
    }
    return smem.ring(warp) + stage * kLayout.stage_bytes;
  }
  // Nobody needs it any more.
  __forceinline__ void release() {
    --in_flight;
    if (++stage == c.num_stages) {
      stage = 0;
      parity ^= 1;
    }
    tile::sync_warp();
  }

 private:
  static __forceinline__ tile::CachePolicy policy_of(KvEviction eviction) {
    switch (eviction) {
      case KvEviction::first:
        return tile::evict_first();
      case KvEviction::normal:
        return tile::evict_normal();
      default:
        return tile::evict_unchanged();
    }
  }
  static __forceinline__ tile::Mbarrier& barrier(const DecodeSmem<c>& smem, int warp, int stage) {
    return *reinterpret_cast<tile::Mbarrier*>(smem.base + kLayout.full +
                                              (warp * c.num_stages + stage) * 8);
  }
  __forceinline__ int copies_shift() const {  // log2 of the copies of a tile
    return (c.tile_kv == 32 ? 5 : 4) - params.copy_shift;
  }

  // Starts the copies of the next tile; false when none is known. The first call only looks up.
  __forceinline__ bool ask() {
    const bool next_batch = tile_of_now == now.num_tiles;
    if (next_batch) {
      now = ahead;
      tile_of_now = 0;
    }
    const bool copies = now.num_tiles > 0;
    if (copies) {
      u8* to = smem.ring(warp) + fill_stage * kLayout.stage_bytes;
      if constexpr (c.boxes) {
        ask_for_boxes(to);
      } else {
        ask_for_rows(to);
        tile::cp_async::commit();
      }
      ++tile_of_now;
      if (++fill_stage == c.num_stages) fill_stage = 0;
    }
    if (next_batch) ahead = look_up();
    idle = tile_of_now == now.num_tiles && ahead.num_tiles == 0;
    return copies;
  }

  // The next batch. Its pages are on their way when this returns.
  __forceinline__ Batch look_up() {
#pragma unroll 1
    while (tiles_left == 0) {
      if (next_item >= num_made) return {};
      const WorkTile& t = smem.item(next_item++).tile;
      tiles_left = num_tiles(t);
      token = first_token(t);
      kv_head = t.kv_head;
      kv_base = t.kv_base;
      kv_available = t.kv_available;
    }
    const AttentionParams& p = params.attention;
    const int lane = tile::lane_index(), shift = copies_shift();
    const int num_tiles = tile::min_of(tiles_left, tile::kWarpSize >> shift);
    const int at = token + (lane >> shift) * (kLayout.warps * c.tile_kv) +
                   ((lane & ((1 << shift) - 1)) << params.copy_shift);
    // As unsigned: what has run over is not there either.
    const bool there =
        lane >> shift < num_tiles && static_cast<u32>(at) < static_cast<u32>(kv_available);
    Batch batch{-1, kv_base + at, kv_head, num_tiles};
    if (p.page_size > 0) {
      const int entry = params.page_shift >= 0 ? at >> params.page_shift : at / p.page_size;
      batch.slot = at - entry * p.page_size;
      if (there) batch.page = p.kv_indices[kv_base + entry];
    } else if (there) {
      batch.page = 0;
    }
    tiles_left -= num_tiles;
    token += num_tiles * (kLayout.warps * c.tile_kv);
    return batch;
  }

  __forceinline__ bool exists(int page) const {
    const int num_pages = params.attention.page_size > 0 ? params.attention.num_pages : 1;
    return static_cast<u32>(page) < static_cast<u32>(num_pages);
  }

  // One box of K and one of V a copy; a page outside the tensor makes zeros.
  __forceinline__ void ask_for_boxes(u8* to) const {
    const int lane = tile::lane_index(), copies = 1 << copies_shift();
    const int from = tile_of_now * copies + (lane & (copies - 1));
    const int found = tile::warp::shuffle(now.page, from);
    const int slot = tile::warp::shuffle(now.slot, from);
    const int page = exists(found) ? found : tile::max_of(params.attention.num_pages, 1);
    tile::Mbarrier& full = barrier(smem, warp, fill_stage);
    if (lane == 0) full.arrive_expect(kLayout.stage_bytes);
    tile::sync_warp();
    if (lane >= copies) return;
    const int rows = lane << params.copy_shift;
    const int at[5] = {0, slot, 0, now.kv_head, page};
    tile::tma::load_5d(to + rows * (kLayout.k_panels * 128), params.k, full, policy, at);
    tile::tma::load_5d(to + kLayout.k_tile_bytes + rows * (kLayout.v_panels * 128), params.v, full,
                       policy, at);
  }

  // 16 bytes of K and of V a lane at a time.
  __forceinline__ void ask_for_rows(u8* to) const {
    const AttentionParams& p = params.attention;
    constexpr int kKChunks = c.head_dim_qk * kBytes / 16, kVChunks = c.head_dim_vo * kBytes / 16;
    constexpr int kChunks = tile::max_of(kKChunks, kVChunks);
    constexpr int kTotal = c.tile_kv * kChunks;
    const int first = tile_of_now << copies_shift();
#pragma unroll 4
    for (int i0 = 0; i0 < kTotal; i0 += tile::kWarpSize) {
      const int i = i0 + tile::lane_index();
      const int row = tile::min_of(i / kChunks, c.tile_kv - 1), chunk = i % kChunks;
      const int from = first + (row >> params.copy_shift);
      const i64 page = tile::warp::shuffle(now.page, from);
      const i64 slot = tile::warp::shuffle(now.slot, from) + (row & ((1 << params.copy_shift) - 1));
      const bool valid = exists(static_cast<int>(page)) && (p.page_size > 0 || slot < p.total_kv);
      u8* dst = to + row * 128 + chunk / 8 * (c.tile_kv * 128) + (chunk % 8 ^ row % 8) * 16;
      if (i >= kTotal) break;
      if (kKChunks == kChunks || chunk < kKChunks) {
        copy(dst, p.k, valid,
             page * p.k_page_stride + slot * p.k_token_stride + now.kv_head * p.k_head_stride,
             chunk);
      }
      if (kVChunks == kChunks || chunk < kVChunks) {
        copy(dst + kLayout.k_tile_bytes, p.v, valid,
             page * p.v_page_stride + slot * p.v_token_stride + now.kv_head * p.v_head_stride,
             chunk);
      }
    }
  }

  // Chunk `chunk` of the row that begins `offset` elements after `tensor`.
  __forceinline__ void copy(u8* dst, const void* tensor, bool valid, i64 offset, int chunk) const {
    const auto* src = static_cast<const u8*>(tensor) + (valid ? offset * kBytes + chunk * 16 : 0);
    if constexpr (c.aligned) {
      tile::cp_async::copy16(dst, src, valid);
    } else {
      copy_chunk<false, tile::word_t<kBytes>>(dst, src, valid);
    }
  }
};

}  // namespace quire::kernels
