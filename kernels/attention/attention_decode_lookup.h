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

  // Items below this are there for everybody while item n is worked on.
  static __forceinline__ int num_made(int n) {
    return kDecodeItems + tile::max_of(n - kMakeAfter - 1, 0) / kHalf * kHalf;
  }

  __forceinline__ void first_items() const {
    const int lane = tile::lane_index();
    if (lane < count) smem.item(lane) = make_decode_item<c>(p, p.items[begin + lane]);
  }

  // Before item n is worked on. Behind a block barrier its q is there.
  __forceinline__ void step(int n) const {
    if (n == 0) {
#pragma unroll 1
      for (int i = 0; i < kDecodeQStages - 1; ++i) load_q(i);
    } else if (n >= kHalf) {
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
    tile::cp_async::wait<kDecodeQStages - 1>();
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
        copy_chunk<c.aligned>(dst + row * kLayout.q_row + col, valid ? src : q, valid);
      }
    }
    tile::cp_async::commit();
  }
};

}  // namespace quire::kernels
