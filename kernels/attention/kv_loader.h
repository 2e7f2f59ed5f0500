// Brings rows of q, k and v into shared memory, zero-filled where there is none: absent rows must
// never leave stale bits behind, since 0 * NaN is NaN.
#pragma once

#include "attention/attention_sm80_layout.h"
#include "attention/copy_chunk.h"
#include "attention/work_tile.h"

namespace quire::kernels {

template <AttentionConfig c>
struct KvLoader {
  static constexpr Sm80Layout kLayout = sm80_layout(c);
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
      copy_chunk<c.aligned>(dst + row * kLayout.qk_row + col, valid ? src : q, valid);
    }
  }

  // Looks up where the rows of a step live. Visible to load_step() after a barrier.
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

  // Copies the rows found in `slot` to stage `stage`.
  void load_step(int slot, int stage) const {
    load_rows<c.head_dim_qk, kLayout.qk_row>(
        static_cast<const u16*>(p.k) + t.kv_head * p.k_head_stride, p.k_page_stride,
        p.k_token_stride, slot, smem + kLayout.k + stage * kLayout.k_stage_bytes);
    load_rows<c.head_dim_vo, kLayout.vo_row>(
        static_cast<const u16*>(p.v) + t.kv_head * p.v_head_stride, p.v_page_stride,
        p.v_token_stride, slot, smem + kLayout.v + stage * kLayout.v_stage_bytes);
  }

 private:
  template <int head_dim, int row_elems>
  void load_rows(const u16* src, i64 page_stride, i64 token_stride, int slot, u8* stage) const {
    constexpr int kChunks = head_dim / 8;
    auto* dst = reinterpret_cast<u16*>(stage);
    const auto* page_of = reinterpret_cast<const i32*>(smem + kLayout.row_page) + slot * c.tile_kv;
    const auto* slot_of = reinterpret_cast<const i32*>(smem + kLayout.row_slot) + slot * c.tile_kv;
#pragma unroll 4
    for (int i = tile::thread_index(); i < c.tile_kv * kChunks; i += kLayout.threads) {
      const int row = i / kChunks;
      const int col = i % kChunks * 8;
      const int page = page_of[row];
      const i64 offset = page < 0 ? 0 : page * page_stride + slot_of[row] * token_stride + col;
      copy_chunk<c.aligned>(dst + row * row_elems + col, src + offset, page >= 0);
    }
  }
};

}  // namespace quire::kernels
