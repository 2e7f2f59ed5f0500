// Brings rows of q, k and v into shared memory, zero-filled where there is none: absent rows must
// never leave stale bits behind, since 0 * NaN is NaN.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "attention/copy_chunk.h"
#include "attention/fp8_rows.h"
#include "attention/work_tile.h"

namespace quire::kernels {

template <AttentionConfig c>
struct KvLoader {
  static constexpr Sm80Layout kLayout = sm80_layout(c);
  static constexpr bool kConverts = is_fp8(c.kv_dtype);
  const AttentionParams& p;
  const WorkTile& t;
  u8* smem;

  // Packed row r of the tile: token r / group_size, head r % group_size of the group.
  void load_q() const {
    constexpr int kChunks = c.head_dim_qk / 8;
    auto* dst = reinterpret_cast<u16*>(smem + kLayout.q);
    const auto* q = static_cast<const u16*>(p.q);
    for (int i = tile::thread_index(); i < c.tile_q * kChunks; i += kLayout.threads) {
      const int row = i / kChunks;
      const int col = i % kChunks * 8;
      const bool valid = row < t.num_rows;
      const int packed = t.q_begin + (valid ? row : 0);
      const i64 token = t.first_q_row + packed / p.group_size;
      const i64 head = t.kv_head * p.group_size + packed % p.group_size;
      const u16* src = q + token * p.q_token_stride + head * p.q_head_stride + col;
      copy_chunk<c.aligned, u16>(dst + row * kLayout.qk_row + col, valid ? src : q, valid);
    }
  }

  // Looks up where the rows of a step live. Visible to begin_step() after a barrier.
  void find_rows(int kv_begin, int slot) const {
    auto* page_of = reinterpret_cast<i32*>(smem + kLayout.row_page) + slot * c.tile_kv;
    auto* slot_of = reinterpret_cast<i32*>(smem + kLayout.row_slot) + slot * c.tile_kv;
    for (int i = tile::thread_index(); i < c.tile_kv; i += kLayout.threads) {
      const int token = kv_begin + i;
      int page = -1;
      int row = 0;
      if (token < t.kv_end) {
        if (p.page_size > 0) {
          page = p.kv_indices[t.kv_base + token / p.page_size];
          row = token % p.page_size;
          if (static_cast<u32>(page) >= static_cast<u32>(p.num_pages)) page = -1;
        } else {
          page = 0;
          row = static_cast<int>(t.kv_base + token);
        }
      }
      page_of[i] = page;
      slot_of[i] = row;
    }
  }

  // The rows found in `slot` go to stage `stage`, by three calls: before, between and after the two
  // products of the step before. The first copies 16-bit rows asynchronously, that is all; fp8 rows
  // are on their way to `staged` in between (Staging).
  void begin_step(StagedKv<c>& staged, int slot, int stage) const {
    if constexpr (kConverts) {
      constexpr Staging kStaging = StagedKv<c>::staging();
      if constexpr (kStaging != Staging::late) staged.k.load(k_rows(), slot_rows(slot));
      if constexpr (kStaging == Staging::together) staged.v.load(v_rows(), slot_rows(slot));
    } else {
      load_step(slot, stage);
    }
  }
  void continue_step(StagedKv<c>& staged, int slot, int stage) const {
    if constexpr (kConverts) {
      if constexpr (StagedKv<c>::staging() == Staging::in_turn) {
        staged.k.store(k_stage(stage));
        staged.v.load(v_rows(), slot_rows(slot));
      }
    }
  }
  void end_step(StagedKv<c>& staged, int slot, int stage) const {
    if constexpr (kConverts) {
      constexpr Staging kStaging = StagedKv<c>::staging();
      if constexpr (kStaging == Staging::late) {
        staged.k.copy(k_rows(), slot_rows(slot), k_stage(stage));
        staged.v.copy(v_rows(), slot_rows(slot), v_stage(stage));
      } else {
        if constexpr (kStaging == Staging::together) staged.k.store(k_stage(stage));
        staged.v.store(v_stage(stage));
      }
    }
  }

 private:
  u8* k_stage(int stage) const { return smem + kLayout.k + stage * kLayout.k_stage_bytes; }
  u8* v_stage(int stage) const { return smem + kLayout.v + stage * kLayout.v_stage_bytes; }
  Fp8Source k_rows() const {
    return {static_cast<const u8*>(p.k) + t.kv_head * p.k_head_stride, p.k_page_stride,
            p.k_token_stride};
  }
  Fp8Source v_rows() const {
    return {static_cast<const u8*>(p.v) + t.kv_head * p.v_head_stride, p.v_page_stride,
            p.v_token_stride};
  }
  // Found by find_rows().
  RowTable slot_rows(int slot) const {
    return {reinterpret_cast<const i32*>(smem + kLayout.row_page) + slot * c.tile_kv,
            reinterpret_cast<const i32*>(smem + kLayout.row_slot) + slot * c.tile_kv};
  }

  void load_step(int slot, int stage) const {
    load_rows<c.head_dim_qk, kLayout.qk_row>(
        static_cast<const u16*>(p.k) + t.kv_head * p.k_head_stride, p.k_page_stride,
        p.k_token_stride, slot, k_stage(stage));
    load_rows<c.head_dim_vo, kLayout.vo_row>(
        static_cast<const u16*>(p.v) + t.kv_head * p.v_head_stride, p.v_page_stride,
        p.v_token_stride, slot, v_stage(stage));
  }

  template <int head_dim, int row_elems>
  void load_rows(const u16* src, i64 page_stride, i64 token_stride, int slot, u8* stage) const {
    constexpr int kChunks = head_dim / 8;
    auto* dst = reinterpret_cast<u16*>(stage);
    const RowTable rows = slot_rows(slot);
#pragma unroll 4
    for (int i = tile::thread_index(); i < c.tile_kv * kChunks; i += kLayout.threads) {
      const int row = i / kChunks;
      const int col = i % kChunks * 8;
      const int page = rows.page[row];
      const i64 offset = page < 0 ? 0 : page * page_stride + rows.slot[row] * token_stride + col;
      copy_chunk<c.aligned, u16>(dst + row * row_elems + col, src + offset, page >= 0);
    }
  }
};

}  // namespace quire::kernels
