// From raw scores to what the softmax wants: soft cap, ALiBi, a custom variant, masks. For
// accumulators of mma.m16n8k16 and wgmma alike: a thread holds rows g and g + 8 of 16, g = lane /
// 4, and columns 2 t, 2 t + 1 of every 8, t = lane % 4.
#pragma once

#include "attention/mask.h"
#include "attention/scales.h"
#include "attention/variant.h"

namespace quire::kernels {

// The scores of a thread, as [8 columns][2 * half + j] or flat, [4 * i + 2 * half + j].
template <int n>
inline float& score_at(float (&score)[n][4], int i, int half, int j) {
  return score[i][2 * half + j];
}
template <int n>
inline float& score_at(float (&score)[n], int i, int half, int j) {
  return score[4 * i + 2 * half + j];
}
template <int n>
constexpr int score_blocks(const float (&)[n][4]) {
  return n;
}
template <int n>
constexpr int score_blocks(const float (&)[n]) {
  static_assert(n % 4 == 0 && n <= 64, "columns_below() counts 32");
  return n / 4;
}

// Bit k for the thread's k-th column, 8 (k / 2) + k % 2: is it below `column`?
inline u32 columns_below(int column) {
  if (column <= 0) return 0;
  const int count = column / 8 * 2 + tile::min_of(column % 8, 2);
  return count >= 32 ? ~0u : (1u << count) - 1;
}

// A score of a token that a row does not see.
template <AttentionConfig c>
constexpr float kHiddenScore = c.softmax ? tile::kNegInf : 0.f;

// How one thread treats the scores of a tile of 16 rows of a work item: begin() once an item,
// transform() for every step of KV tokens, then mask().
template <AttentionConfig c>
struct Logits {
  int thread_row;  // of the item: this thread's first row; the second is 8 further
  VariantRows<c.variant> variant;

  // tile_row: of the item, the first of the 16 rows.
  void begin(const AttentionParams& p, const WorkTile& t, int tile_row) {
    thread_row = tile_row + tile::lane_index() / 4;
    variant.set(p, t, thread_row);
  }

  // True when transform() leaves natural logits behind, false when sm_scale is still to come.
  static bool natural(const AttentionParams& p) {
    return c.variant != VariantKind::none || p.logits_soft_cap > 0.f || p.alibi_slopes;
  }
  // What brings the scores that transform() leaves behind to base 2.
  static float to_base2(const AttentionParams& p, int kv_head) {
    return (natural(p) ? 1.f : score_scale<c>(p, kv_head)) * tile::kLog2e;
  }
  static float to_base2(const AttentionParams& p) {
    static_assert(!is_fp8(c.kv_dtype), "its KV heads may have scales of their own");
    return to_base2(p, 0);
  }

  // Soft cap, ALiBi, and all of the custom variant, its mask too. kv_begin: token of column 0.
  template <class Score>
  void transform(Score& score, const AttentionParams& p, const WorkTile& t, int kv_begin) const {
    // One branch around the two takes fewer registers in kernels that want neither: 128, not 135,
    // in attention_sm80 for sm_80, head_dim 64, tile_q 16 (NVRTC 13.0).
    if (p.logits_soft_cap > 0.f || p.alibi_slopes) {
      if (p.logits_soft_cap > 0.f) soft_cap(score, p, t);
      if (p.alibi_slopes) add_alibi(score, p, t, kv_begin);
    }
    if constexpr (c.variant != VariantKind::none) apply_variant(score, p, t, kv_begin);
  }

  // Causal, window, custom mask and the end of the tokens; nothing on steps that they do not cut.
  template <class Score>
  void mask(Score& score, const AttentionParams& p, const WorkTile& t, int kv_begin) const {
    const Mask mask{p, t};
    constexpr int kColumns = sizeof(Score) / sizeof(float) / 2;  // of a row, that this thread has
    if (mask.all_visible(kv_begin, kv_begin + 4 * kColumns)) return;
    const int first = kv_begin + tile::lane_index() % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int q_token = (t.q_begin + thread_row + 8 * half) / p.group_size;
      const Range range = mask.visible(q_token);
      // Bit k: is the k-th column seen? As a word it takes a loop, not one copy of the code a
      // column.
      u32 seen = columns_below(range.end - first) & ~columns_below(range.begin - first);
      if (p.custom_mask) {
        u32 bits = 0;
#pragma unroll 1
        for (int k = 0; k < kColumns; ++k) {
          bits |= static_cast<u32>(mask.custom_bit(q_token, first + k / 2 * 8 + k % 2)) << k;
        }
        seen &= bits;
      }
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        if (!(seen >> k & 1)) score_at(score, k / 2, half, k % 2) = kHiddenScore<c>;
      }
    }
  }

 private:
  template <class Score>
  static void soft_cap(Score& score, const AttentionParams& p, const WorkTile& t) {
    const float to_cap = score_scale<c>(p, t.kv_head) / p.logits_soft_cap;
#pragma unroll
    for (int i = 0; i < score_blocks(score); ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float& x = score_at(score, i, j / 2, j % 2);
        x = p.logits_soft_cap * tile::tanh_by_exp(x * to_cap);
      }
    }
  }

  // + slope * (kv token - position of the row). What it needs is looked up here, so that it takes
  // no registers from those who do not want it.
  template <class Score>
  void add_alibi(Score& score, const AttentionParams& p, const WorkTile& t, int kv_begin) const {
    const float scale = p.logits_soft_cap > 0.f ? 1.f : score_scale<c>(p, t.kv_head);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const QueryRow row = query_row(p, t, thread_row + 8 * half);
      const float slope = p.alibi_slopes[row.qo_head];
      const float first =
          slope * static_cast<float>(kv_begin + tile::lane_index() % 4 * 2 - row.position);
#pragma unroll
      for (int i = 0; i < score_blocks(score); ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& x = score_at(score, i, half, j);
          x = tile::fma_f32(x, scale, tile::fma_f32(slope, static_cast<float>(8 * i + j), first));
        }
      }
    }
  }

  template <class Score>
  void apply_variant(Score& score, const AttentionParams& p, const WorkTile& t,
                     int kv_begin) const {
    const typename VariantRows<c.variant>::Arguments args(p.variant);
    const float scale =
        p.logits_soft_cap > 0.f || p.alibi_slopes ? 1.f : score_scale<c>(p, t.kv_head);
#pragma unroll
    for (int i = 0; i < score_blocks(score); ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        // A step can reach past the tokens; the snippet indexes its tensors with what it gets.
        const int token =
            tile::min_of(kv_begin + 8 * i + tile::lane_index() % 4 * 2 + j, t.kv_end - 1);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float& x = score_at(score, i, half, j);
          x = variant.apply(args, half, x * scale, token, kHiddenScore<c>);
        }
      }
    }
  }
};

}  // namespace quire::kernels
