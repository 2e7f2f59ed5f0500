// A consumer warpgroup of attention_sm90: 64 packed rows of every item of the block.
#pragma once

#include "attention/attention_sm90_epilogue.h"
#include "attention/attention_sm90_smem.h"
#include "attention/attention_sm90_terms.h"
#include "attention/logits.h"
#include "tile/tma.h"
#include "tile/vec.h"
#include "tile/wgmma.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90Consumer {
  using T = tile::storage_t<c.q_dtype>;
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr bool kFp8 = is_fp8(c.q_dtype);
  static constexpr int kStep = 32 / size_bytes(c.q_dtype);  // of k, in elements: 32 bytes
  static constexpr int kQkSteps = (c.head_dim_qk + kStep - 1) / kStep;
  static constexpr int kSteps = c.tile_kv / kStep;  // k-steps of the second product
  static constexpr int kEarlySteps = kSteps / 2;    // exponentials before O is waited for
  static constexpr int kWarpgroups = kLayout.consumers;
  // The maximum of a row is taken in its first tile only; the reference moves later, when the sum
  // has become large: only the range of f32 asks for a reference, not accuracy. Terms may reach
  // 2^64 before repair() acts: P must have the range of f32.
  static constexpr bool kDelayedReference = c.softmax && c.q_dtype == DType::bf16;
  // With 8 bits it is taken in the first two tiles, of which a mask may leave few tokens of one,
  // and where a term passes what P can hold: S is still there then, and its terms are computed
  // again. P is exact to 1/16 from 2^-6 to 448. Terms at the reference are 2^5: with normal scores
  // of which 128 were seen, one of 10^6 is above 2^8.75.
  static constexpr float kTopLog2 = kFp8 ? 5.f : 0.f, kLargestLog2 = 8.75f;
  // Rows keep their reference while the maximum is at most this much larger (log2 units): every
  // term shares it, and O is seldom rescaled.
  static constexpr float kSlack = kFp8 ? 0.f : 8.f;
  // Does the warpgroup have stages of q of its own.
  static constexpr bool kOwnRows = kLayout.q_stage_rows < c.tile_q;
  // Boxes bring whatever follows a request; who transposes V clears it.
  static constexpr bool kClearsValues = c.boxes && !kFp8;

  static constexpr int kConsumersBarrier = 4;  // named barrier of all; 1 to 3: turns

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warpgroup;  // among the consumers
  const int warp;       // in the warpgroup
  float to_base2;       // of all rows; of an fp8 cache the item's, q of 8 bits: row_to_base2

  float s[c.tile_kv / 2];
  float o[c.head_dim_vo / 2];
  u32 p[kSteps][4];
  u32 early_p[kFp8 ? kEarlySteps : 1][4];  // of the next p; 8 bits only
  int peak;                                // 8 bits only: the tile's largest exponent, as bits
  float row_to_base2[2];  // of the item's rows; 8 bits only, whose heads have scales
  float tile_sum[2];      // of this tile's terms in the rows
  float rescale[2];       // brings older sums to the new reference
  bool settled;           // do all rows of the warp have a reference
  RowState rows;
  int slot;                     // of the item of S
  int tile;                     // of the item, counted down; that of S
  int plain_first, plain_last;  // tiles whose scores need no shaping
  int v_rows;                   // rows of the pending V that are there
  Ring<kLayout.q_stages> q_ring;
  Ring<kLayout.k_stages> k_ring;
  Ring<kLayout.v_stages> v_ring;
  u32 held_q[kLayout.holds_q ? kQkSteps : 1][4];  // the item's rows, as A operands

  // Of the tile, this warp's. With 8 bits opaque: what the rare paths make of it spilled, kept over
  // the loop.
  __forceinline__ int first_row() const {
    const int row = warpgroup * 64 + warp * 16;
    return kFp8 ? tile::opaque(row) : row;
  }

  // The right to issue matrix work passes round three warpgroups, so that the softmax of one runs
  // under the matrix work of another. Two find their rhythm alone: turns cost them 3 to 5 %, while
  // three lose up to 10 % without (head_dim 128 and 64, H100). Three of 8 bits gain 2 to 3 %
  // without (head_dim 64).
  static constexpr bool kTurns = kWarpgroups > 2 && !kFp8;
  __forceinline__ void take_turn() const {
    if constexpr (kTurns) tile::named_barrier_sync<256>(1 + warpgroup);
  }
  __forceinline__ void pass_turn() const {
    if constexpr (kTurns) {
      tile::named_barrier_arrive<256>(warpgroup + 1 == kWarpgroups ? 1 : 2 + warpgroup);
    }
  }
  // K of the step is there and, where the second of two follows the first, the first has asked for
  // its scores.
  __forceinline__ void wait_keys() const {
    const bool follows = kLayout.follows && warpgroup > 0;
    (follows ? smem.k_led(k_ring.stage) : smem.k_full(k_ring.stage)).wait(k_ring.parity);
  }
  // What was gathered came as the generic proxy's; the products read as the asynchronous one.
  __forceinline__ void fence_rows() const {
    if constexpr (!c.boxes) tile::fence_async_proxy();
  }
  __forceinline__ void lead() const {
    if (kLayout.follows && warpgroup == 0) release(smem.k_led(k_ring.stage));
  }
  __forceinline__ void release(tile::Mbarrier& empty) const {
    if (tile::lane_index() == 0) empty.arrive();
  }

  __forceinline__ float scale_of(int r) const {
    if constexpr (kFp8) return row_to_base2[r];
    return to_base2;
  }

  // The products: attention/attention_sm90_products.h.
  __forceinline__ void issue_scores();                 // S = Q K^T
  __forceinline__ void issue_output(bool accumulate);  // O (+)= P V
  // `columns` of O, from `first` on, in one k-step.
  template <int first, int columns>
  __forceinline__ void multiply(int step, u64 values, bool accumulate);
  // Takes the rows of the item from its stage, where they are held.
  __forceinline__ void hold_rows();
  // S of the current tile once more, by this warp alone. A member: as a function of its own it
  // moves the code of the whole kernel, which made chunks on pages of 16 a quarter slower.
  __forceinline__ void recompute_scores();
  // Of this lane, for ldmatrix of the warp's rows.
  __forceinline__ int row_in_stage() const {
    return (kOwnRows ? 0 : warpgroup * 64) + warp * 16 + tile::lane_index() % 16;
  }

  // The stage of q of the next item.
  __forceinline__ void next_rows() {
    if constexpr (kOwnRows) {
      q_ring.template advance_by<kWarpgroups>();
    } else {
      q_ring.advance();
    }
  }
  // Begins with the rows of an item, which are there.
  __forceinline__ void begin_item(const Sm90Item& t) {
    hold_rows();
    // Shuffled, so that the compiler knows them to be the same in a warp.
    tile = tile::warp::shuffle(t.num_tiles, 0);
    plain_first = tile::warp::shuffle(t.plain_first[warpgroup], 0);
    plain_last = tile::warp::shuffle(t.plain_last[warpgroup], 0);
    const AttentionParams& a = params.attention;
    if constexpr (has_head_scales(c) && !kFp8) to_base2 = Logits<c>::to_base2(a, t.kv_head);
    if constexpr (kFp8) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        row_to_base2[r] = Logits<c>::to_base2(a, t.kv_head);
        if (!Logits<c>::natural(a)) row_to_base2[r] *= query_scale(t, r);
      }
    }
  }
  // All scores of the item are there: without a use for the stage of q, it is free.
  __forceinline__ void end_item() const {
    if constexpr (!kLayout.stages_out) release(smem.q_empty(q_ring.stage));
  }

  // The scale that a row's head has of its own.
  __forceinline__ float query_scale(const Sm90Item& t, int r) const {
    const AttentionParams& a = params.attention;
    if (!a.q_scales) return 1.f;
    const int row = first_row() + tile::lane_index() / 4 + 8 * r;
    return a.q_scales[packed_row(t, row, a.group_size).head];
  }

  __forceinline__ int rows_of_last() const {
    return kClearsValues ? tile::warp::shuffle(smem.item(slot).rows_of_last, 0) : c.tile_kv;
  }
  // Boxes bring whatever follows a request. In K the mask hides it; 0 * NaN in V would not be 0.
  // All consumers together, before any of them reads V.
  __forceinline__ void clear_values() {
    smem.v_full(v_ring.stage).wait(v_ring.parity);
    constexpr int kThreads = kWarpgroups * tile::kWarpgroupSize;
    const int begin = tile::max_of(v_rows, 0) * 8, end = c.tile_kv * 8;
    const int thread = tile::thread_index() - kLayout.first_consumer * tile::kWarpgroupSize;
#pragma unroll 1
    for (int panel = 0; panel < kLayout.vo_panels; ++panel) {
      auto* chunks =
          reinterpret_cast<tile::Vec<u32, 4>*>(smem.v(v_ring.stage) + panel * (c.tile_kv * 128));
#pragma unroll 1
      for (int i = begin + thread; i < end; i += kThreads) chunks[i] = {};
    }
    tile::fence_async_proxy();
    tile::named_barrier_sync<kThreads>(kConsumersBarrier);
  }

  __forceinline__ bool is_plain() const { return tile >= plain_first && tile <= plain_last; }
  // Raw scores of the tile to what the softmax wants.
  __forceinline__ void shape_scores(const Sm90Item& t) {
    if (is_plain()) return;
    const int token = t.kv_begin + tile * c.tile_kv;
    Logits<c> logits;
    logits.begin(params.attention, t, first_row());
    if constexpr (kFp8) {
      if (params.attention.q_scales && Logits<c>::natural(params.attention)) {
        const float scales[2] = {query_scale(t, 0), query_scale(t, 1)};
#pragma unroll
        for (int i = 0; i < c.tile_kv / 2; ++i) s[i] *= scales[i / 2 % 2];
      }
    }
    logits.transform(s, params.attention, t, token);
    logits.mask(s, params.attention, t, token);
  }

  // Moves the rows' references to the maximum of S where it grew by more than the slack.
  __forceinline__ void update_reference() {
    if constexpr (!c.softmax) {  // the scores are the weights
      rescale[0] = rescale[1] = 1.f;
      return;
    }
    float highest[2][4];  // independent chains
#pragma unroll
    for (int i = 0; i < c.tile_kv / 8; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float pair = tile::max_f32(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]);
        highest[r][i % 4] = i < 4 ? pair : tile::max_f32(highest[r][i % 4], pair);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float m = tile::max_f32(highest[r][0], highest[r][1]);
      if constexpr (c.tile_kv >= 32)
        m = tile::max_f32(m, tile::max_f32(highest[r][2], highest[r][3]));
      highest[r][0] = tile::warp::max<4>(m);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float old = rows.offset[r];
      float highest_seen = highest[r][0] * scale_of(r);
      if constexpr (kFp8) highest_seen -= kTopLog2;
      if constexpr (kDelayedReference) {  // terms since the last move may be far above the
                                          // reference
        highest_seen =
            tile::max_f32(highest_seen, old + tile::log2_approx(tile::warp::sum<4>(rows.sum[r])));
      }
      if (highest_seen - old > kSlack) rows.offset[r] = highest_seen;
      rescale[r] = tile::exp2_approx(old - rows.offset[r]);  // exactly 1 if it stayed
      rows.sum[r] *= rescale[r];
    }
    settled =
        tile::warp::all(rows.offset[0] > RowState::kUnset && rows.offset[1] > RowState::kUnset);
  }

  // S becomes terms of the softmax, for steps [begin, end).
  template <int begin, int end>
  __forceinline__ void exponentiate() {
#pragma unroll
    for (int i = begin * kStep / 2; i < end * kStep / 2; ++i) {
      const int r = i / 2 % 2;
      if constexpr (c.softmax)
        s[i] = tile::exp2_approx(tile::fma_f32(s[i], scale_of(r), -rows.offset[r]));
      tile_sum[r] = i % 4 == i && i % 2 == 0 ? s[i] : tile_sum[r] + s[i];
    }
  }

  // The accumulator layout of S is the A operand's layout of P, two 8-column blocks a step.
  __forceinline__ void pack() {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p[step][i] = tile::pack2<T>(s[step * 8 + i * 2], s[step * 8 + i * 2 + 1]);
      }
    }
  }

  // With 8 bits: steps [begin, end) of P from S, which stays.
  template <int begin, int end>
  __forceinline__ void weigh(u32 (&to)[end - begin][4]) {
    if constexpr (begin == 0) peak = 0;
    weigh_fp8<T, begin, end>(s, row_to_base2, rows, to, tile_sum, peak);
  }

  // All terms of the tile.
  __forceinline__ void make_terms() {
    if constexpr (kFp8) {
      weigh<0, kSteps>(p);
    } else {
      exponentiate<0, kSteps>();
      pack();
    }
  }
  // The same in two parts, the second when the product that reads p is done.
  __forceinline__ void make_early_terms() {
    if constexpr (kFp8) {
      weigh<0, kEarlySteps>(early_p);
    } else {
      exponentiate<0, kEarlySteps>();
    }
  }
  __forceinline__ void make_late_terms() {
    if constexpr (kFp8) {
      // An instruction a word, that the compiler cannot move up: p must not change before.
      const u32 zero = static_cast<u32>(tile::opaque(0));
#pragma unroll
      for (int i = 0; i < kEarlySteps * 4; ++i) p[i / 4][i % 4] = early_p[i / 4][i % 4] | zero;
      weigh<kEarlySteps, kSteps>(reinterpret_cast<u32(&)[kSteps - kEarlySteps][4]>(p[kEarlySteps]));
    } else {
      exponentiate<kEarlySteps, kSteps>();
      pack();
    }
  }

  // With this tile, must the next one's maximum be taken before its exponentials?
  __forceinline__ bool needs_reference() const {
    if constexpr (kFp8) return out_of_range();
    constexpr float kLarge = 0x1p32f;
    const float sum = rows.sum[0] + rows.sum[1] + tile_sum[0] + tile_sum[1];
    return !kDelayedReference || !settled || tile::warp::any(!(sum < kLarge));
  }
  // Have terms of this tile left the range that is safe in P and O?
  __forceinline__ bool out_of_range() const {
    if constexpr (kFp8) return tile::warp::any(tile::float_from_bits(peak) > kLargestLog2);
    constexpr float kLimit = 0x1p64f;
    const float sum = tile_sum[0] + tile_sum[1];
    return kDelayedReference && tile::warp::any(!(sum < kLimit));
  }

  __forceinline__ void rescale_output() {
    if (!tile::warp::any(rescale[0] != 1.f || rescale[1] != 1.f)) return;
#pragma unroll
    for (int i = 0; i < c.head_dim_vo / 2; ++i) o[i] *= rescale[i / 2 % 2];
  }

  // A tile whose terms have left the safe range: S once more, and terms relative to its maximum.
  // O must be complete, K still there.
  __forceinline__ void repair(const Sm90Item& t) {
    if constexpr (!kFp8) {
      recompute_scores();
      shape_scores(t);
    }
    update_reference();
    rescale_output();
    make_terms();
  }

  // Writes the rows of an item that has ended, the one before the current one, by its stage of q.
  __forceinline__ void write(const Sm90Item& t, const RowState& state, int q_stage) {
    RowEnd ends[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      ends[r] =
          c.softmax ? end_row(state.offset[r], tile::warp::sum<4>(state.sum[r])) : RowEnd{1.f, 0.f};
    }
    if constexpr (kLayout.stages_out) {
      if (params.out_boxes && t.partial_row < 0 && first_row() + 16 <= t.num_rows) {
        write_box<c>(params, t, first_row(), smem.q(q_stage), o, ends);
        return;
      }
    }
    write_rows<c>(params.attention, t, first_row(), o, ends);
  }
  __forceinline__ void release_written(int old_slot, int q_stage) const {
    tile::sync_warp();  // every lane has read what it needs of the item
    release(smem.item_empty(old_slot));
    if constexpr (kLayout.stages_out) {
      if (tile::lane_index() == 0) {
        tile::tma::wait_stores_read();
        smem.q_empty(q_stage).arrive();
      }
    }
  }

  // One stream of steps over all items of the block: each step issues the scores of the next KV
  // tile (of the next item too) together with the output of the current one.
  __forceinline__ void run();
};

}  // namespace quire::kernels
