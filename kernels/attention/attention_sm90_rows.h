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
  static constexpr int kChunkBytes = 16;  // copied at a time

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;
  tile::Mbarrier* pending = nullptr;  // of the buffer that consumers have not heard of

  // Rows of a tensor: one begins `unit` bytes times its number after `first`.
  struct Rows {
    const u8* first;
    u32 unit;
  };
  static constexpr u32 kAbsent = ~0u;  // number of a row that is not there

  // The block of rows from `first` on of a tile of `rows` rows. number: of this lane's row of it.
  // Eight lanes copy the 128 bytes that a row has of a panel: whole sectors, all banks, and one
  // exchange of the number serves every panel. Rows of 8 bits end in zeros where their last k-step
  // does not end.
  template <int rows, int chunks, class Element>
  __forceinline__ void gather(u8* stage, int first, const Rows& from, u32 number) const {
    constexpr int kPadded = is_fp8(c.q_dtype) ? chunks + chunks % 2 : chunks;
    const int lane = tile::lane_index();
    const u8* chunk_of_first = from.first + lane % 8 * kChunkBytes;
#pragma unroll(c.aligned ? kBlock / 4 : 1)
    for (int i = 0; i < kBlock / 4; ++i) {
      const int row = 4 * i + lane / 8;
      if (rows % kBlock != 0 && first + row >= rows) continue;  // by all lanes of a quarter
      const u32 source = tile::warp::shuffle(number, row);
      const u8* src = chunk_of_first + static_cast<u64>(source) * from.unit;
      u8* dst = stage + (first + row) * 128 + (lane % 8 ^ row % 8) * 16;
#pragma unroll(c.aligned ? 4 : 1)
      for (int panel = 0; panel * 8 < kPadded; ++panel) {
        if (kPadded % 8 != 0 && panel * 8 + lane % 8 >= kPadded) continue;
        const bool padding = kPadded > chunks && panel * 8 + lane % 8 >= chunks;
        copy_chunk<c.aligned, Element>(dst + panel * (rows * 128), src + panel * (8 * kChunkBytes),
                                       source != kAbsent && !padding);
      }
    }
  }

  // Copies that are not the engine's must have landed and be fenced before consumers hear of them:
  // they hear of a buffer when the next one has been asked for, or when there is time to wait.
  template <int younger>
  __forceinline__ void tell() {
    if (pending == nullptr) return;
    tile::cp_async::wait<younger>();
    tile::fence_async_proxy();
    pending->arrive();
    pending = nullptr;
  }
  __forceinline__ void asked_for(tile::Mbarrier& full) {
    tile::cp_async::commit();
    tell<1>();
    pending = &full;
  }
  __forceinline__ void wait_empty(tile::Mbarrier& empty, u32 parity) {
    if (tile::warp::all(empty.test(parity))) return;
    tell<0>();
    empty.wait(parity);
  }

  __forceinline__ void load_q(const Sm90Item& t, int stage) {
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

  // Entry of the request's pages that a token is on.
  __forceinline__ int page_entry(int token) const {
    return params.page_shift >= 0 ? token >> params.page_shift : token / params.attention.page_size;
  }

  // First row in the tile of the warp's block i.
  __forceinline__ int block_row(int i) const { return (2 * i + warp % 2) * kBlock; }

  // Where this lane's rows of a tile are, one in every block: the page, -1 where there is no row.
  struct Pages {
    int id[kBlocks];
  };
  __forceinline__ Pages find(const Sm90Item& t, int tile) const {
    const AttentionParams& p = params.attention;
    Pages pages;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int token = t.kv_begin + tile * c.tile_kv + block_row(i) + tile::lane_index();
      pages.id[i] = token >= t.kv_available ? -1
                    : p.page_size == 0      ? 0
                                            : p.kv_indices[t.kv_base + page_entry(token)];
    }
    return pages;
  }
  // The number of the row of block i.
  __forceinline__ u32 number_of(const Sm90Item& t, const RowNumbers& rows, int tile,
                                const Pages& pages, int i) const {
    const AttentionParams& p = params.attention;
    const int token = t.kv_begin + tile * c.tile_kv + block_row(i) + tile::lane_index();
    if (pages.id[i] < 0) return kAbsent;
    if (p.page_size == 0) return rows.number(0, t.kv_base + token);
    if (pages.id[i] >= p.num_pages) return kAbsent;
    return rows.number(pages.id[i], token - page_entry(token) * p.page_size);
  }

  template <bool is_v>
  __forceinline__ void load_tile(const Sm90Item& t, int tile, const Pages& pages, int count) {
    constexpr int kStages = Sm90Smem<c>::template kv_stages<is_v>();
    using Element = tile::word_t<size_bytes(c.kv_dtype)>;
    constexpr int kBytes = (is_v ? c.head_dim_vo : c.head_dim_qk) * sizeof(Element);
    const AttentionParams& p = params.attention;
    const RowNumbers& rows = is_v ? params.v_rows : params.k_rows;
    const i64 head = t.kv_head * (is_v ? p.v_head_stride : p.k_head_stride) * i64{sizeof(Element)};
    const Rows from{static_cast<const u8*>(is_v ? p.v : p.k) + head, rows.unit};
    const int stage = count % kStages;
    const auto to = [&] { return smem.template kv_stage<is_v>(stage); };
    wait_empty(to().empty, (count / kStages & 1) ^ 1);
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      if (c.tile_kv % (2 * kBlock) != 0 && block_row(i) >= c.tile_kv) continue;
      gather<c.tile_kv, kBytes / kChunkBytes, Element>(to().data, block_row(i), from,
                                                       number_of(t, rows, tile, pages, i));
    }
    asked_for(to().full);
  }

  template <bool is_v>
  __forceinline__ void load_items() {
    const bool looks_up = tile::thread_index() == 3 * 32;
    int index = 0;
    if (looks_up) index = hand_out_item<c>(params, smem, first_item(params.attention), 0);
    int num_tiles = 0;  // so far
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int stage = count % kLayout.q_stages;
      wait_empty(smem.q_empty(stage), (count / kLayout.q_stages & 1) ^ 1);
      if (t.num_tiles == 0) {
        tell<0>();
        smem.q_full(stage).arrive();
        return;
      }
      load_q(t, stage);
      if (looks_up) index = hand_out_item<c>(params, smem, index + 1, count + 1);
      const int of_item = t.num_tiles;  // after the last one the item may be gone
      Pages pages = find(t, of_item - 1);
      for (int i = of_item - 1; i >= 0; --i) {
        const Pages next = find(t, tile::max_of(i - 1, 0));  // on its way while this tile is
        load_tile<is_v>(t, i, pages, num_tiles++);
        pages = next;
      }
    }
  }

  __forceinline__ void run() {
    if (warp < 2) {
      load_items<false>();
    } else {
      load_items<true>();
    }
  }
};

}  // namespace quire::kernels
