// The warpgroup of attention_sm90 that brings K and V of an fp8 cache to the 16 bits of q.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "tile/convert.h"
#include "tile/tma.h"
#include "tile/vec.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90Converter {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  // 16-byte loads of a lane: 12 % over two, where registers allow.
  static constexpr int kAtOnce = c.boxes || kLayout.consumers == 1 ? 8 : 2;

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;

  // A warp takes 8 rows of 64 columns at a time: each lane 16 bytes, which become 32. Four lanes
  // have a row, and the next four the row whose number differs in bits 0 and 2: so eight lanes of a
  // load are in different banks, and eight of a store too.
  static __forceinline__ int row_of_lane() {
    const int pair = tile::lane_index() / 8, second = tile::lane_index() / 4 % 2;
    return pair ^ second * 5;
  }
  template <int head_dim>
  __forceinline__ void convert(const u8* from, u8* to) const {
    using F8 = tile::storage_t<c.kv_dtype>;
    using T = tile::storage_t<c.q_dtype>;
    constexpr int kPanels = (head_dim + 63) / 64;  // of 16 bits
    constexpr int kBlocks = c.tile_kv / 8 * kPanels;
    const int row = row_of_lane(), chunk = tile::lane_index() % 4;
    u8* first = to + row * 128 + (2 * chunk ^ row) * 16;
    u8* second = to + row * 128 + ((2 * chunk + 1) ^ row) * 16;
#pragma unroll 1
    for (int begin = warp; begin < kBlocks; begin += 4 * kAtOnce) {
      tile::Vec<u32, 4> raw[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int block = begin + 4 * i, panel = block % kPanels;
        if (kBlocks % (4 * kAtOnce) != 0 && block >= kBlocks) break;
        raw[i] = *reinterpret_cast<const tile::Vec<u32, 4>*>(from + panel / 2 * (c.tile_kv * 128) +
                                                             (block / kPanels * 8 + row) * 128 +
                                                             ((panel % 2 * 4 + chunk) ^ row) * 16);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int block = begin + 4 * i, panel = block % kPanels;
        if (kBlocks % (4 * kAtOnce) != 0 && block >= kBlocks) break;
        if (head_dim % 64 != 0 && panel * 64 + chunk * 16 >= head_dim) continue;
        u32 wide[8];
        tile::widen16<F8, T>(wide, raw[i].data);
        const int offset = panel * (c.tile_kv * 128) + block / kPanels * (8 * 128);
        *reinterpret_cast<tile::Vec<u32, 4>*>(first + offset) = {wide[0], wide[1], wide[2],
                                                                 wide[3]};
        *reinterpret_cast<tile::Vec<u32, 4>*>(second + offset) = {wide[4], wide[5], wide[6],
                                                                  wide[7]};
      }
    }
  }

  template <bool is_v>
  struct Rings {
    Ring<Sm90Smem<c>::template kv_stages<is_v>()> raw;
    Ring<(is_v ? kLayout.v_stages : kLayout.k_stages)> ready;
  };
  template <bool is_v>
  __forceinline__ void convert_tile(Rings<is_v>& rings) const {
    const KvStage raw = smem.template raw_stage<is_v>(rings.raw.stage);
    const KvStage ready = smem.template ready_stage<is_v>(rings.ready.stage);
    raw.full.wait(rings.raw.parity);
    ready.empty.wait(rings.ready.parity ^ 1);
    convert<is_v ? c.head_dim_vo : c.head_dim_qk>(raw.data, ready.data);
    tile::fence_async_proxy();
    tile::sync_warp();
    if (tile::lane_index() == 0) raw.empty.arrive(), ready.full.arrive();
    rings.raw.advance();
    rings.ready.advance();
  }

  // All tiles of K and V, in the order of the items.
  __forceinline__ void run() const {
    Rings<false> k;
    Rings<true> v;
#pragma unroll 1
    for (int count = 0;; ++count) {
      const int num_tiles = smem.wait_item(count).num_tiles;
      if (num_tiles == 0) return;
#pragma unroll 1
      for (int i = 0; i < num_tiles; ++i) {
        convert_tile<false>(k);
        convert_tile<true>(v);
      }
    }
  }
};

}  // namespace quire::kernels
