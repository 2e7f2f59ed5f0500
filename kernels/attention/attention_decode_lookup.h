// The warp of attention_decode that looks ahead: it turns work items into DecodeItems, 32 at first,
// then 16 at a time, and copies rows of q. Its loads are long under way when others need them.
#pragma once

#include "attention/attention_decode_smem.h"
#include "attention/copy_chunk.h"

namespace quire::kernels {

template <AttentionConfig c>
struct DecodeLookUp {
  static constexpr DecodeLayout kLayout = decode_layout(c);
  static constexpr int kHalf = kDecodeItems / 2;
  // With the first item of a half, those of the other half are asked for, and made this many items
  // later: q of as many items is waited for in between, so they are there.
  static constexpr int kMakeAfter = kDecodeQStages;

  const AttentionParams& p;
  const DecodeSmem<c> smem;
  const int begin, count;  // of the block's items

  // Items below this are there for everybody before item n is worked on.
  static __forceinline__ int num_made(int n) {
    return kDecodeItems + tile::max_of(n - kMakeAfter - 2, 0) / kHalf * kHalf;
  }

  __forceinline__ void first_items() const {
    struct Halves {
      tile::Vec<u32, 4> first, second;
    };
    const int lane = tile::lane_index();
    if (lane >= count) return;
    // All of an item at once: a field that is asked for behind a branch comes later.
    const Halves words = *reinterpret_cast<const Halves*>(p.items + begin + lane);
    smem.item(lane) = make_decode_item<c>(p, __builtin_bit_cast(WorkItem, words));
  }
  __forceinline__ void first_q() const {
#pragma unroll 1
    for (int i = 0; i < kDecodeQStages - 1; ++i) load_q(i);
    tile::cp_async::wait<kDecodeQStages - 2>();
    prepare_q(0);
  }

  // While others work on item n: behind the next block barrier q of item n + 1 is there.
  __forceinline__ void step(int n) const {
    if (n >= kHalf) {
      const int next = n / kHalf * kHalf + kHalf + tile::lane_index();
      const bool mine = tile::lane_index() < kHalf && next < count;
      WorkItem& raw = smem.raw_item(tile::lane_index());
      if (n % kHalf == 0 && mine) {
        const auto* src = reinterpret_cast<const u8*>(p.items + begin + next);
        tile::cp_async::copy16(&raw, src, true);
        tile::cp_async::copy16(reinterpret_cast<u8*>(&raw) + 16, src + 16, true);
      }
      if (n % kHalf == kMakeAfter && mine) smem.item(next) = make_decode_item<c>(p, raw);
    }
    load_q(n + kDecodeQStages - 1);
    tile::cp_async::wait<kDecodeQStages - 2>();
    prepare_q(n + 1);
  }

 private:
  // Rows past the last are zeros.
  __forceinline__ void load_q(int n) const {
    constexpr int kChunks = c.head_dim_qk / 8;
    if (n < count) {
      const WorkTile& t = smem.item(n).tile;
      const auto* q = static_cast<const u16*>(p.q);
      u16* dst = smem.q(n);
#pragma unroll 1
      for (int i = tile::lane_index(); i < c.tile_q * kChunks; i += tile::kWarpSize) {
        const int row = i / kChunks, col = i % kChunks * 8;
        const bool valid = row < t.num_rows;
        const int packed = t.q_begin + (valid ? row : 0);
        const i64 token = t.first_q_row + packed / p.group_size;
        const i64 head = t.kv_head * p.group_size + packed % p.group_size;
        const u16* src = q + token * p.q_token_stride + head * p.q_head_stride + col;
        copy_chunk<c.aligned, u16>(dst + row * kLayout.q_row + col, valid ? src : q, valid);
      }
    }
    tile::cp_async::commit();
  }

  // For an fp8 cache, whose products are of f16: every row times the power of two that brings its
  // largest element near 1, which f16 has the range for, and the 16 elements of a step of the
  // product in the order in which K comes (attention_decode_state.h).
  __forceinline__ void prepare_q(int n) const {
    if constexpr (is_fp8(c.kv_dtype)) {
      using T = tile::storage_t<c.q_dtype>;
      constexpr int kSteps = c.head_dim_qk / 16;
      const int step = tile::lane_index() % 16;
      if (n >= count) return;
      tile::sync_warp();
#pragma unroll 1
      for (int row = tile::lane_index() / 16; row < c.tile_q; row += 2) {
        auto* words = reinterpret_cast<tile::Vec<u32, 4>*>(smem.q(n) + row * kLayout.q_row) +
                      2 * tile::min_of(step, kSteps - 1);
        const tile::Vec<u32, 4> raw[2] = {words[0], words[1]};
        float x[16], largest = 0.f;
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          const u32 word = raw[i / 8].data[i % 8 / 2];
          x[i] = tile::to_float(T{static_cast<u16>(i % 2 == 0 ? word : word >> 16)});
          largest = tile::max_f32(largest, tile::max_f32(x[i], -x[i]));
        }
        largest = tile::warp::max<16>(largest);
        u32 exponent = tile::float_bits(largest) >> 23;
        if (exponent == 0 || exponent == 255) exponent = 127;  // zeros; no number
        if constexpr (c.q_dtype == DType::f16) exponent = 127;
        exponent = tile::min_of(exponent, 253u);
        const float scale = tile::float_from_bits((254 - exponent) << 23);
        tile::Vec<u32, 4> low, high;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          low.data[i] = tile::pack2<tile::f16>(x[4 * i] * scale, x[4 * i + 1] * scale);
          high.data[i] = tile::pack2<tile::f16>(x[4 * i + 2] * scale, x[4 * i + 3] * scale);
        }
        tile::sync_warp();
        if (step < kSteps) {
          words[0] = low;
          words[1] = high;
        }
        if (step == 0) smem.q_scale(n)[row] = tile::float_from_bits(exponent << 23);
      }
    }
  }
};

}  // namespace quire::kernels
