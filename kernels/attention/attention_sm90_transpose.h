// The four warps of attention_sm90 that transpose V where it has 8 bits: wgmma wants 8-bit operands
// with the tokens contiguous.
//
// In every 16 tokens of a row the pairs come in the order 0, 4, 1, 5, 2, 6, 3, 7: what a thread has
// of S, columns 2 t and 2 t + 1 of every 8, is then what it must have of P, four tokens in a word.
// Rows past the end of a request become zeros here: 0 * NaN would not be 0.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "tile/mma.h"
#include "tile/tma.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90Transposer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr int kGroups = c.tile_kv / 32;      // of tokens, one a k-step
  static constexpr int kChunks = c.head_dim_vo / 16;  // of columns

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;

  // Clears tokens from `rows` on of group `group`; r[i] has two tokens of each 8.
  static __forceinline__ void clear(u32 (&r)[4], int group, int rows) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int left = rows - (32 * group + 8 * i + tile::lane_index() % 4 * 2);
      if (left < 2) r[i] = left == 1 ? r[i] & 0xffff : 0;
    }
  }

  // The columns of this warp, 16 at a time, of a tile of which `rows` tokens are there.
  __forceinline__ void transpose(const u8* from, u8* to, int rows) const {
    const int lane = tile::lane_index();
    // Of the 16 columns, matrix 0 (and 2) of a store takes 0, 2, 4, 6, 9, 11, 13, 15 and matrix 1
    // (and 3) the others: eight rows of a store are in different banks, which even ones are not.
    const u32 first = lane < 16 ? 0x6420 : 0x7531, second = first ^ 0x6420 ^ 0x7531;
    const int column = lane % 8 * 2 + (lane / 8 % 2 ^ lane / 4 % 2);
    const u8* source = from + lane * 128;
    u8* target = to + column * 128;
    const int target_chunk = lane / 16 ^ column % 8;
#pragma unroll 1
    for (int chunk = warp; chunk < kChunks; chunk += 4) {
      const u8* rows_of_v = source + chunk / 8 * (c.tile_kv * 128) + (chunk % 8 ^ lane % 8) * 16;
      u32 r[kGroups][4];
#pragma unroll
      for (int begin = 0; begin < kGroups; begin += 2) {  // as many as registers allow
        const int end = begin + 2 < kGroups ? begin + 2 : kGroups;
#pragma unroll
        for (int i = begin; i < end; ++i) {
          tile::ldmatrix_x4_trans(r[i], rows_of_v + i * (32 * 128));
          if (rows < c.tile_kv) clear(r[i], i, rows);
        }
#pragma unroll
        for (int i = begin; i < end; ++i) {
          tile::stmatrix_x4(target + chunk * (16 * 128) + (target_chunk ^ 2 * i) * 16,
                            tile::permute_bytes(r[i][0], r[i][1], first),
                            tile::permute_bytes(r[i][0], r[i][1], second),
                            tile::permute_bytes(r[i][2], r[i][3], first),
                            tile::permute_bytes(r[i][2], r[i][3], second));
        }
      }
    }
  }

  static_assert(kLayout.raw_v_stages == kLayout.v_stages, "one position serves both rings");
  using VRing = Ring<kLayout.v_stages>;

  // The next tile of V, of which `rows` tokens are there.
  __forceinline__ void transpose_tile(const VRing& ring, int rows) const {
    smem.raw_v_full(ring.stage).wait(ring.parity);
    smem.v_empty(ring.stage).wait(ring.parity ^ 1);
    transpose(smem.raw_v(ring.stage), smem.v(ring.stage), rows);
    tile::fence_async_proxy();
    tile::sync_warp();
    if (tile::lane_index() == 0) {
      smem.raw_v_empty(ring.stage).arrive();
      smem.v_full(ring.stage).arrive();
    }
  }

  // All of them, in the order of the items: the work of a warpgroup of its own.
  __forceinline__ void run() const {
    VRing ring;
#pragma unroll 1
    for (int count = 0;; ++count) {
      const Sm90Item& t = smem.wait_item(count);
      const int num_tiles = t.num_tiles;
      if (num_tiles == 0) return;
      int rows = t.rows_of_last;
#pragma unroll 1
      for (int i = 0; i < num_tiles; ++i) {
        transpose_tile(ring, rows);
        ring.advance();
        rows = c.tile_kv;
      }
    }
  }
};

}  // namespace quire::kernels
