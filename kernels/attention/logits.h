// From raw scores to what the softmax wants: soft cap, ALiBi, a custom variant, masks. For every
// way in which scores lie in registers (attention/score_place.h).
#pragma once

#include "attention/mask.h"
#include "attention/scales.h"
#include "attention/score_place.h"
#include "attention/variant.h"

namespace quire::kernels {

// Bit k for the thread's k-th token: is it below `token`, counted from its first?
template <class Place>
inline u32 columns_below(int token) {
  if (token <= 0) return 0;
  const int count = Place::count_below(token);
  return count >= 32 ? ~0u : (1u << count) - 1;
}

// A score of a token that a row does not see.
template <AttentionConfig c>
constexpr float kHiddenScore = c.softmax ? tile::kNegInf : 0.f;

// How one thread treats the scores of a tile of rows of a work item: begin() once an item,
// transform() for every step of KV tokens, then mask().
template <AttentionConfig c, class Place = RowMajorScores>
struct Logits {
  int thread_row;  // of the item: this thread's first row; the second is Place::kRowStep further
  VariantRows<c.variant> variant;

  // tile_row: of the item, the first of the tile's rows.
  void begin(const AttentionParams& p, const WorkTile& t, int tile_row) {
    thread_row = tile_row + Place::first_row();
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
    static_assert(!has_head_scales(c), "its KV heads may have scales of their own");
    return to_base2(p, 0);
  }

  // Soft cap, ALiBi, and all of the custom variant, its mask too. kv_begin: the tile's first token.
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
    // The first tile of an item may then begin with tokens of another item.
    constexpr bool kTilesOnGrid = c.kernel == AttentionKernel::decode;
    const Mask mask{p, t};
    constexpr int kColumns = kTokens<Score>;
    if ((!kTilesOnGrid || kv_begin >= t.kv_begin) &&
        mask.all_visible(kv_begin, kv_begin + Place::tile_tokens(kColumns))) {
      return;
    }
    const int first = kv_begin + Place::first_token();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int q_token = (t.q_begin + thread_row + Place::kRowStep * half) / p.group_size;
      const Range range = mask.visible(q_token);
      const int begin = kTilesOnGrid ? tile::max_of(range.begin, t.kv_begin) : range.begin;
      // Bit k: is the k-th token seen? As a word it takes a loop, not one copy of the code a
      // token.
      u32 seen = columns_below<Place>(range.end - first) & ~columns_below<Place>(begin - first);
      if (p.custom_mask) {
        u32 bits = 0;
#pragma unroll 1
        for (int k = 0; k < kColumns; ++k) {
          bits |= static_cast<u32>(mask.custom_bit(q_token, first + Place::token(k))) << k;
        }
        seen &= bits;
      }
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        if (!(seen >> k & 1)) Place::at(score, k, half) = kHiddenScore<c>;
      }
    }
  }

 private:
  // Tokens that a thread has of a tile.
  template <class Score>
  static constexpr int kTokens = sizeof(Score) / sizeof(float) / 2;

  template <class Score>
  static void soft_cap(Score& score, const AttentionParams& p, const WorkTile& t) {
    const float to_cap = score_scale<c>(p, t.kv_head) / p.logits_soft_cap;
#pragma unroll
    for (int k = 0; k < kTokens<Score>; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& x = Place::at(score, k, half);
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
      const QueryRow row = query_row(p, t, thread_row + Place::kRowStep * half);
      const float slope = p.alibi_slopes[row.qo_head];
      const float first =
          slope * static_cast<float>(kv_begin + Place::first_token() - row.position);
#pragma unroll
      for (int k = 0; k < kTokens<Score>; ++k) {
        float& x = Place::at(score, k, half);
        x = tile::fma_f32(x, scale,
                          tile::fma_f32(slope, static_cast<float>(Place::token(k)), first));
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
    for (int k = 0; k < kTokens<Score>; ++k) {
      // A step can reach past the tokens; the snippet indexes its tensors with what it gets.
      const int token =
          tile::min_of(kv_begin + Place::first_token() + Place::token(k), t.kv_end - 1);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& x = Place::at(score, k, half);
        x = variant.apply(args, half, x * scale, token, kHiddenScore<c>);
      }
    }
  }
};

}  // namespace quire::kernels
