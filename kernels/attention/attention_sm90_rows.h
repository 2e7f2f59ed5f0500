// The producer of attention_sm90 where boxes do not fit: pages that are not multiples of 16 rows,
// rows that are not aligned. Four warps gather row by row, absent rows as zeros: warps 0 and 1
// every second tile of K, warps 2 and 3 of V, so that one has time to wait for what it has asked
// for; each a quarter of q.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "attention/copy_chunk.h"
#include "tile/word.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90RowProducer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr int kBlock = 32;  // rows a warp gathers at a time, one looked up by each lane
  static constexpr int kAtOnce = c.aligned ? 4 : 1;  // rows of it that a lane has addresses of
  static constexpr int kBlocks = (c.tile_kv + kBlock - 1) / kBlock;  // of a tile of K or V
  static constexpr int kChunk = 16 / size_bytes(c.q_dtype);          // elements copied at a time
  using Element = tile::word_t<size_bytes(c.q_dtype)>;

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;
  tile::Mbarrier* pending = nullptr;  // of the buffer that consumers have not heard of

  // The block of rows from `first` on of a tile of `rows` rows. source: this lane's row of it, or
  // null. Eight lanes copy the 128 bytes that a row has of a panel: whole sectors, all banks, and
  // one exchange of the address serves every panel. Rows of 8 bits end in zeros where their last
  // k-step does not end.
  template <int rows, int chunks>
  __forceinline__ void gather(u8* stage, int first, const Element* source) const {
    constexpr int kPadded = is_fp8(c.q_dtype) ? chunks + chunks % 2 : chunks;
    const int lane = tile::lane_index();
    constexpr u64 kAbsent = 1;  // addresses are even: 8 bits come in aligned rows only
    const auto present = reinterpret_cast<u64>(source);
    const u64 address = present ? present : reinterpret_cast<u64>(params.attention.q) | kAbsent;
    const u32 low = static_cast<u32>(address), high = static_cast<u32>(address >> 32);
#pragma unroll(c.aligned ? kBlock / 4 : 1)
    for (int i = 0; i < kBlock / 4; i += kAtOnce) {
      // Addresses come before copies: in turns they would wait for each other.
      const u16* src[kAtOnce];
      bool valid[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int row = 4 * (i + j) + lane / 8;
        const u64 from =
            static_cast<u64>(tile::warp::shuffle(high, row)) << 32 | tile::warp::shuffle(low, row);
        valid[j] = !(from & kAbsent);
        src[j] = reinterpret_cast<const u16*>(from & ~kAbsent) + lane % 8 * 8;
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int row = 4 * (i + j) + lane / 8;
        if (rows % kBlock != 0 && first + row >= rows) continue;
        u8* dst = stage + (first + row) * 128 + (lane % 8 ^ row % 8) * 16;
#pragma unroll(c.aligned ? 4 : 1)
        for (int panel = 0; panel * 8 < kPadded; ++panel) {
          if (kPadded % 8 != 0 && panel * 8 + lane % 8 >= kPadded) continue;
          const bool padding = kPadded > chunks && panel * 8 + lane % 8 >= chunks;
          copy_chunk<c.aligned>(reinterpret_cast<u16*>(dst + panel * (rows * 128)),
                                padding ? src[j] - lane % 8 * 8 : src[j] + panel * 64,
                                valid[j] && !padding);
        }
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
      const Element* source = nullptr;
      if (row < t.num_rows) {
        const PackedRow at = packed_row(t, row, p.group_size);
        source = static_cast<const Element*>(p.q) + (t.first_q_row + at.token) * p.q_token_stride +
                 at.head * p.q_head_stride;
      }
      gather<c.tile_q, c.head_dim_qk / kChunk>(smem.q(stage), first, source);
    }
    asked_for(smem.q_full(stage));
  }

  // Entry of the request's pages that a token is on.
  __forceinline__ int page_entry(int token) const {
    return params.page_shift >= 0 ? token >> params.page_shift : token / params.attention.page_size;
  }

  // Where this lane's rows of a tile are, one in every block: the page, -1 where there is no row.
  struct Pages {
    int id[kBlocks];
  };
  __forceinline__ Pages find(const Sm90Item& t, int tile) const {
    const AttentionParams& p = params.attention;
    Pages pages;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int token = t.kv_begin + tile * c.tile_kv + i * kBlock + tile::lane_index();
      pages.id[i] = token >= t.kv_available ? -1
                    : p.page_size == 0      ? 0
                                            : p.kv_indices[t.kv_base + page_entry(token)];
    }
    return pages;
  }
  // The row of block i: its first element, or null.
  template <bool is_v>
  __forceinline__ const Element* row_of(const Sm90Item& t, int tile, const Pages& pages,
                                        int i) const {
    const AttentionParams& p = params.attention;
    const int token = t.kv_begin + tile * c.tile_kv + i * kBlock + tile::lane_index();
    const auto* head = static_cast<const Element*>(is_v ? p.v : p.k) +
                       t.kv_head * (is_v ? p.v_head_stride : p.k_head_stride);
    const i64 token_stride = is_v ? p.v_token_stride : p.k_token_stride;
    if (pages.id[i] < 0) return nullptr;
    if (p.page_size == 0) return head + (static_cast<i64>(t.kv_base) + token) * token_stride;
    if (pages.id[i] >= p.num_pages) return nullptr;
    return head + pages.id[i] * (is_v ? p.v_page_stride : p.k_page_stride) +
           (token - page_entry(token) * p.page_size) * token_stride;
  }

  template <bool is_v>
  __forceinline__ void load_tile(const Sm90Item& t, int tile, const Pages& pages, int count) {
    constexpr int kStages = Sm90Smem<c>::template kv_stages<is_v>();
    constexpr int kChunks = (is_v ? c.head_dim_vo : c.head_dim_qk) / kChunk;
    const int stage = count % kStages;
    const auto to = [&] { return smem.template kv_stage<is_v>(stage); };
    wait_empty(to().empty, (count / kStages & 1) ^ 1);
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      gather<c.tile_kv, kChunks>(to().data, i * kBlock, row_of<is_v>(t, tile, pages, i));
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
      int i = of_item - 1 - (num_tiles % 2 != warp % 2);
      Pages pages = find(t, tile::max_of(i, 0));
      for (; i >= 0; i -= 2) {
        const Pages next = find(t, tile::max_of(i - 2, 0));  // on its way while this tile is
        load_tile<is_v>(t, i, pages, num_tiles + of_item - 1 - i);
        pages = next;
      }
      num_tiles += of_item;
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
