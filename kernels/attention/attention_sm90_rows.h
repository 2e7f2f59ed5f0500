// The producer of attention_sm90 where boxes do not fit: pages that are not multiples of 16 rows,
// rows that are not aligned. Four warps gather row by row, absent rows as zeros: warps 0 and 1 half
// of every tile of K each, warps 2 and 3 of V, each a quarter of q.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "attention/copy_chunk.h"
#include "tile/word.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90RowProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr int kBlock = 32;  // rows a warp gathers at a time, one looked up by each lane
  // Of a tile of K or V, for a warp: every second one.
  static constexpr int kBlocks = (c.tile_kv + 2 * kBlock - 1) / (2 * kBlock);
  static constexpr int kChunkBytes = 16;      // copied at a time
  static constexpr int kCopies = kBlock / 4;  // of a panel of a block, a lane: four rows at a time

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;

  // Rows of a tensor: one begins `unit` bytes times its number after `first`.
  struct Rows {
    const u8* first;
    u32 unit;
  };
  static constexpr u32 kAbsent = ~0u;  // number of a row that is not there

  // The block of rows from `first` on of a tile of `rows` rows. number: of this lane's row of it.
  // Eight lanes copy the 128 bytes that a row has of a panel: whole sectors, all banks, and one
  // exchange of the number serves every panel. Rows of 8 bits end in zeros where their last k-step
  // does not end. All that copies wait for comes before the first: they are issued one after the
  // other, and what a warp does in between is what the tile waits for.
  template <int rows, int chunks, class Element>
  __forceinline__ void gather(u8* stage, int first, const Rows& from, u32 number) const {
    constexpr int kPadded = is_fp8(c.q_dtype) ? chunks + chunks % 2 : chunks;
    const int lane = tile::lane_index(), quarter = lane / 8, chunk = lane % 8;
    const auto number_of = [&](int i) { return tile::warp::shuffle(number, 4 * i + quarter); };
    u32 numbers[c.aligned ? kCopies : 1];
#pragma unroll
    for (int i = 0; c.aligned && i < kCopies; ++i) numbers[i] = number_of(i);
    // Opaque: one addition a copy, not one of every term.
    const u8* const chunk_of_first = tile::opaque(from.first + chunk * kChunkBytes);
    u8* const begin = stage + (first + quarter) * 128;
    u8* const even = tile::opaque(begin + (chunk ^ quarter) * kChunkBytes);
    u8* const odd = tile::opaque(begin + (chunk ^ quarter ^ 4) * kChunkBytes);
#pragma unroll(c.aligned ? kCopies : 1)
    for (int i = 0; i < kCopies; ++i) {
      const u32 source = c.aligned ? numbers[c.aligned ? i : 0] : number_of(i);
      if (rows % kBlock != 0 && first + 4 * i + quarter >= rows) continue;  // by a whole quarter
      const u8* src = chunk_of_first + static_cast<u64>(source) * from.unit;
      u8* dst = (i % 2 == 0 ? even : odd) + i * (4 * 128);
#pragma unroll(c.aligned ? 4 : 1)
      for (int panel = 0; panel * 8 < kPadded; ++panel) {
        if (kPadded % 8 != 0 && panel * 8 + chunk >= kPadded) continue;
        const bool padding = kPadded > chunks && panel * 8 + chunk >= chunks;
        copy_chunk<c.aligned, Element>(dst + panel * (rows * 128), src + panel * (8 * kChunkBytes),
                                       source != kAbsent && !padding);
      }
    }
  }

  // Each lane arrives when its own copies have landed; consumers fence what they read.
  __forceinline__ void asked_for(tile::Mbarrier& full) const {
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
      u32 number = kAbsent;
      if (row < t.num_rows) {
        const PackedRow at = packed_row(t, row, p.group_size);
        number = params.q_rows.number(t.first_q_row + at.token, at.head);
      }
      using Element = tile::word_t<size_bytes(c.q_dtype)>;
      gather<c.tile_q, c.head_dim_qk * sizeof(Element) / kChunkBytes, Element>(
          smem.q(stage), first, {static_cast<const u8*>(p.q), params.q_rows.unit}, number);
    }
    asked_for(smem.q_full(stage));
  }

  // First row in the tile of the warp's block i.
  __forceinline__ int block_row(int i) const { return (2 * i + warp % 2) * kBlock; }

  // Where this lane's rows of a tile are, one in every block: page, -1 where there is no row, and
  // row of the page. Ragged rows are of page 0.
  struct Places {
    int page[kBlocks], row[kBlocks];
  };
  __forceinline__ Places find(const Sm90Item& t, int tile) const {
    const AttentionParams& p = params.attention;
    Places places;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int token = t.kv_begin + tile * c.tile_kv + block_row(i) + tile::lane_index();
      const bool is_there = token < t.kv_available;
      places.page[i] = is_there ? 0 : -1;
      places.row[i] = t.kv_base + token;
      if (p.page_size > 0) {
        const int entry = params.page_size.quotient(token);
        places.row[i] = token - entry * p.page_size;
        if (is_there) places.page[i] = p.kv_indices[t.kv_base + entry];
      }
    }
    return places;
  }

  template <bool is_v>
  __forceinline__ void load_tile(const Sm90Item& t, const Places& places, int count) const {
    constexpr int kStages = Sm90Smem<c>::template kv_stages<is_v>();
    using Element = tile::word_t<size_bytes(c.kv_dtype)>;
    constexpr int kBytes = (is_v ? c.head_dim_vo : c.head_dim_qk) * sizeof(Element);
    const AttentionParams& p = params.attention;
    const RowNumbers& rows = is_v ? params.v_rows : params.k_rows;
    const i64 head = t.kv_head * (is_v ? p.v_head_stride : p.k_head_stride) * i64{sizeof(Element)};
    const Rows from{static_cast<const u8*>(is_v ? p.v : p.k) + head, rows.unit};
    const int num_pages = p.page_size > 0 ? p.num_pages : 1;
    u32 numbers[kBlocks];
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const bool is_there = static_cast<u32>(places.page[i]) < static_cast<u32>(num_pages);
      numbers[i] = is_there ? rows.number(places.page[i], places.row[i]) : kAbsent;
    }
    const KvStage to = smem.template kv_stage<is_v>(count % kStages);
    to.empty.wait((count / kStages & 1) ^ 1);
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      if (c.tile_kv % (2 * kBlock) != 0 && block_row(i) >= c.tile_kv) continue;
      gather<c.tile_kv, kBytes / kChunkBytes, Element>(to.data, block_row(i), from, numbers[i]);
    }
    asked_for(to.full);
  }

  template <bool is_v>
  __forceinline__ void load_items() const {
    const bool looks_up = tile::thread_index() == 3 * 32;
    int index = 0;
    if (looks_up) index = hand_out_item<c>(params, smem, first_item(params.attention), 0);
    int num_tiles = 0;  // so far
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int stage = count % kLayout.q_stages;
      smem.q_empty(stage).wait((count / kLayout.q_stages & 1) ^ 1);
      if (t.num_tiles == 0) {
        smem.q_full(stage).arrive();
        return;
      }
      load_q(t, stage);
      if (looks_up) index = hand_out_item<c>(params, smem, index + 1, count + 1);
      const int of_item = t.num_tiles;  // after the last one the item may be gone
      Places places = find(t, of_item - 1);
      for (int i = of_item - 1; i >= 0; --i) {
        const Places next = find(t, tile::max_of(i - 1, 0));  // on its way while this tile is
        load_tile<is_v>(t, places, num_tiles++);
        places = next;
      }
    }
  }

  __forceinline__ void run() const {
    if (warp < 2) {
      load_items<false>();
    } else {
      load_items<true>();
    }
  }
};

}  // namespace quire::kernels
