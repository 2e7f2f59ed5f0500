// The shared memory of attention_sm90 by name, and positions in its rings of buffers.
#pragma once

#include "attention/attention_sm90_layout.h"
#include "attention/attention_sm90_types.h"
#include "attention/logits.h"
#include "tile/mbarrier.h"
#include "tile/warpgroup.h"

namespace quire::kernels {

// A work item as the block's warps hand it on, with what is too slow to compute where it is needed.
struct Sm90Item : WorkTile {
  int num_tiles;                      // steps of tile_kv tokens, 0 after the last item
  int first_token;                    // q_begin / group_size: token of the request
  int first_head;                     // q_begin % group_size
  int group_reciprocal;               // 2^20 / group_size, rounded up
  int plain_first[3], plain_last[3];  // tiles whose scores a consumer need not shape
  int rows_of_last;                   // rows of the last tile that are there
};
static_assert(sizeof(Sm90Item) <= kSm90ItemBytes);

// Token of the request and qo head of row `row` of the tile.
struct PackedRow {
  int token, head;
};
__forceinline__ PackedRow packed_row(const Sm90Item& t, int row, int group_size) {
  const int n = t.first_head + row;
  // Exact while n * group_size < 2^20: groups of up to kSm90MaxGroupSize heads.
  const int token = n * t.group_reciprocal >> 20;
  return {t.first_token + token, t.kv_head * group_size + n - token * group_size};
}

// The buffer in turn, and the parity of its round.
template <int stages>
struct Ring {
  int stage = 0;
  u32 parity = 0;
  __forceinline__ void advance() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
  // By several at once, at most a round.
  template <int buffers>
  __forceinline__ void advance_by() {
    stage += buffers;
    if (stage >= stages) {
      stage -= stages;
      parity ^= 1;
    }
  }
};

// The address in a swizzled panel of chunk `chunk` of a row.
__forceinline__ u8* chunk_address(u8* panel, int row, int chunk) {
  return panel + row * 128 + (chunk ^ row % 8) * 16;
}

// Where a tile of K or V goes.
struct KvStage {
  u8* data;
  tile::Mbarrier &full, &empty;
};

template <AttentionConfig c>
struct Sm90Smem {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  u8* base;

  __forceinline__ u8* q(int stage) const {
    return base + kLayout.q + stage * kLayout.q_stage_bytes;
  }
  __forceinline__ u8* k(int stage) const {
    return base + kLayout.k + stage * kLayout.k_stage_bytes;
  }
  __forceinline__ u8* v(int stage) const {
    return base + kLayout.v + stage * kLayout.v_stage_bytes;
  }
  __forceinline__ u8* raw_k(int stage) const {
    return base + kLayout.raw_k + stage * kLayout.raw_k_stage_bytes;
  }
  __forceinline__ u8* raw_v(int stage) const {
    return base + kLayout.raw_v + stage * kLayout.raw_v_stage_bytes;
  }
  __forceinline__ Sm90Item& item(int slot) const {
    return *reinterpret_cast<Sm90Item*>(base + kLayout.items + slot * kSm90ItemBytes);
  }
  // full: one thread of the producer arrives, or all that gather rows. empty: the consumers' warps
  // do. Empty raw ones, and full ones made of those: the warps that transpose or convert.
  __forceinline__ tile::Mbarrier& item_full(int slot) const {
    return barrier(kLayout.item_full, slot);
  }
  __forceinline__ tile::Mbarrier& item_empty(int slot) const {
    return barrier(kLayout.item_empty, slot);
  }
  __forceinline__ tile::Mbarrier& q_full(int stage) const { return barrier(kLayout.q_full, stage); }
  __forceinline__ tile::Mbarrier& q_empty(int stage) const {
    return barrier(kLayout.q_empty, stage);
  }
  __forceinline__ tile::Mbarrier& k_full(int stage) const { return barrier(kLayout.k_full, stage); }
  __forceinline__ tile::Mbarrier& k_empty(int stage) const {
    return barrier(kLayout.k_empty, stage);
  }
  // Four warps of the first consumer arrive.
  __forceinline__ tile::Mbarrier& k_led(int stage) const { return barrier(kLayout.k_led, stage); }
  __forceinline__ tile::Mbarrier& v_full(int stage) const { return barrier(kLayout.v_full, stage); }
  __forceinline__ tile::Mbarrier& v_empty(int stage) const {
    return barrier(kLayout.v_empty, stage);
  }
  __forceinline__ tile::Mbarrier& raw_k_full(int stage) const {
    return barrier(kLayout.raw_k_full, stage);
  }
  __forceinline__ tile::Mbarrier& raw_k_empty(int stage) const {
    return barrier(kLayout.raw_k_empty, stage);
  }
  __forceinline__ tile::Mbarrier& raw_v_full(int stage) const {
    return barrier(kLayout.raw_v_full, stage);
  }
  __forceinline__ tile::Mbarrier& raw_v_empty(int stage) const {
    return barrier(kLayout.raw_v_empty, stage);
  }

  // The ring that the producer fills.
  template <bool is_v>
  static constexpr int kRawStages = is_v ? kLayout.raw_v_stages : kLayout.raw_k_stages;
  template <bool is_v>
  static constexpr int kv_stages() {
    return kRawStages<is_v> > 0 ? kRawStages<is_v> : is_v ? kLayout.v_stages : kLayout.k_stages;
  }
  template <bool is_v>
  __forceinline__ KvStage kv_stage(int stage) const {
    if constexpr (kRawStages<is_v> > 0) {
      return raw_stage<is_v>(stage);
    } else {
      return ready_stage<is_v>(stage);
    }
  }
  template <bool is_v>
  __forceinline__ KvStage raw_stage(int stage) const {
    if constexpr (is_v) return {raw_v(stage), raw_v_full(stage), raw_v_empty(stage)};
    return {raw_k(stage), raw_k_full(stage), raw_k_empty(stage)};
  }
  // The ring that the consumers read.
  template <bool is_v>
  __forceinline__ KvStage ready_stage(int stage) const {
    if constexpr (is_v) return {v(stage), v_full(stage), v_empty(stage)};
    return {k(stage), k_full(stage), k_empty(stage)};
  }

  // Item number `count` of the block, when it is there.
  __forceinline__ const Sm90Item& wait_item(int count) const {
    const int slot = count % kSm90ItemSlots;
    item_full(slot).wait(count / kSm90ItemSlots & 1);
    return item(slot);
  }

  // By one thread.
  __forceinline__ void init_barriers() const {
    constexpr int kEmpty = 4 * kLayout.consumers;
    constexpr int kQFull = c.boxes ? 1 : tile::kWarpgroupSize,
                  kKvFull = c.boxes ? 1 : 2 * tile::kWarpSize;
    for (int i = 0; i < kSm90ItemSlots; ++i) item_full(i).init(1), item_empty(i).init(kEmpty);
    constexpr int kQEmpty = kEmpty * kLayout.q_stage_rows / c.tile_q;
    for (int i = 0; i < kLayout.q_stages; ++i) q_full(i).init(kQFull), q_empty(i).init(kQEmpty);
    init_ring<false>(kKvFull, kEmpty);
    init_ring<true>(kKvFull, kEmpty);
    for (int i = 0; kLayout.follows && i < kLayout.k_stages; ++i) k_led(i).init(4);
    tile::fence_mbarrier_init();
  }

 private:
  // Of K or V: who fills what the producer fills, who empties what the consumers read.
  template <bool is_v>
  __forceinline__ void init_ring(int full, int empty) const {
    for (int i = 0; i < kRawStages<is_v>; ++i) {
      const KvStage raw = raw_stage<is_v>(i);
      raw.full.init(full), raw.empty.init(kLayout.preparers);
    }
    for (int i = 0; i < (is_v ? kLayout.v_stages : kLayout.k_stages); ++i) {
      const KvStage ready = ready_stage<is_v>(i);
      ready.full.init(kRawStages<is_v> > 0 ? kLayout.preparers : full), ready.empty.init(empty);
    }
  }
  __forceinline__ tile::Mbarrier& barrier(int offset, int stage) const {
    return *reinterpret_cast<tile::Mbarrier*>(base + offset + 8 * stage);
  }
};

// Fills in the item of work item `index`: without tiles where that points nowhere.
template <AttentionConfig c>
__forceinline__ void look_up(const AttentionSm90Params& params, int index, Sm90Item& t) {
  const AttentionParams& p = params.attention;
  const int tile_rows = tile::min_of(p.tile_rows, c.tile_q);
  static_cast<WorkTile&>(t) = make_work_tile(p, p.items[index], tile_rows, c.tile_kv);
  t.num_tiles = 0;
  if (t.num_rows == 0) return;
  // At least one, so that every item takes the same path.
  t.num_tiles = tile::max_of(1, tile::ceil_div(t.kv_end - t.kv_begin, c.tile_kv));
  t.rows_of_last = t.kv_available - t.kv_begin - (t.num_tiles - 1) * c.tile_kv;
  t.first_token = t.q_begin / p.group_size;
  t.first_head = t.q_begin % p.group_size;
  t.group_reciprocal = ((1 << 20) + p.group_size - 1) / p.group_size;
  const int before_rows = t.kv_len - t.qo_len;  // tokens before those of q
#pragma unroll 1
  for (int i = 0; i < sm90_layout(c).consumers; ++i) {
    const int first = tile::min_of(64 * i, t.num_rows - 1);
    const int last = tile::min_of(64 * i + 64, t.num_rows) - 1;
    int begin = 0, end = t.kv_end;
    if (p.causal)
      end = tile::min_of(end, before_rows + packed_row(t, first, p.group_size).token + 1);
    if (p.window_left >= 0) {
      const int position = before_rows + packed_row(t, last, p.group_size).token;
      begin = position > p.window_left ? position - p.window_left : 0;
    }
    if (p.custom_mask || Logits<c>::natural(p)) end = 0;
    t.plain_first[i] = tile::ceil_div(tile::max_of(begin - t.kv_begin, 0), c.tile_kv);
    t.plain_last[i] = tile::max_of(end - t.kv_begin, 0) / c.tile_kv - 1;
  }
}

// Puts work item number `count` of the block, the first from `index` on that has rows, where
// everyone finds it; one without tiles after the last. By one thread. Returns its index.
template <AttentionConfig c>
__forceinline__ int hand_out_item(const AttentionSm90Params& params, const Sm90Smem<c>& smem,
                                  int index, int count) {
  const AttentionParams& p = params.attention;
  const int end = tile::min_of(p.worker_indptr[tile::block_index() + 1], p.num_items);
  const int slot = count % kSm90ItemSlots;
  smem.item_empty(slot).wait((count / kSm90ItemSlots & 1) ^ 1);
  Sm90Item& t = smem.item(slot);
  t.num_tiles = 0;
  for (; index < end; ++index) {
    look_up<c>(params, index, t);
    if (t.num_tiles > 0) break;
  }
  smem.item_full(slot).arrive();
  return index;
}
__forceinline__ int first_item(const AttentionParams& p) {
  return tile::max_of(p.worker_indptr[tile::block_index()], 0);
}

}  // namespace quire::kernels
