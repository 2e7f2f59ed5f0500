// The warps of attention_sm90 that transpose V where it has 8 bits: wgmma wants 8-bit operands with
// the tokens contiguous.
//
// In every 16 tokens of a row the pairs come in the order 0, 4, 1, 5, 2, 6, 3, 7: what a thread has
// of S, columns 2 t and 2 t + 1 of every 8, is then what it must have of P, four tokens in a word.
// Rows past the end of a request become zeros here: 0 * NaN would not be 0.
#pragma once

#include "attention/attention_sm90_smem.h"
#include "tile/mma.h"
#include "tile/tma.h"
#include "tile/vec.h"

namespace quire::kernels {

template <AttentionConfig c>
struct Sm90Transposer {
  static constexpr Sm90Layout kLayout = sm90_layout(c);
  static constexpr int kGroups = c.tile_kv / 32;      // of tokens, one a k-step
  static constexpr int kChunks = c.head_dim_vo / 16;  // of columns
  // A warp has every kLayout.preparers-th chunk, and kTogether blocks of 32 tokens x 16 columns are
  // read while as many are written: shared memory is busy and answers late. One by one they took
  // two warps longer than the consumers take for a tile (H100).
  static constexpr int kWarpChunks = (kChunks + kLayout.preparers - 1) / kLayout.preparers;
  static constexpr int kBlocks = kWarpChunks * kGroups;
  static constexpr int kTogether = kLayout.consumers == 1 ? 4 : 2;  // as registers allow

  const AttentionSm90Params& params;
  const Sm90Smem<c> smem;
  const int warp;  // of kLayout.preparers

  // Makes zeros of what follows the first `rows` tokens, in the columns of this warp.
  __forceinline__ void clear(u8* v, int rows) const {
#pragma unroll 1
    for (int chunk = warp; chunk < kChunks; chunk += kLayout.preparers) {
      u8* panel = v + chunk / 8 * (c.tile_kv * 128);
#pragma unroll 1
      for (int row = tile::max_of(rows, 0) + tile::lane_index(); row < c.tile_kv; row += 32) {
        *reinterpret_cast<tile::Vec<u32, 4>*>(chunk_address(panel, row, chunk % 8)) = {};
      }
    }
    tile::sync_warp();
  }

  // The columns of this warp.
  __forceinline__ void transpose(const u8* from, u8* to) const {
    const int lane = tile::lane_index();
    // Of the 16 columns, matrix 0 (and 2) of a store takes 0, 2, 4, 6, 9, 11, 13, 15 and matrix 1
    // (and 3) the others: eight rows of a store are in different banks, which even ones are not.
    const u32 first = lane < 16 ? 0x6420 : 0x7531, second = first ^ 0x6420 ^ 0x7531;
    const int column = lane % 8 * 2 + (lane / 8 % 2 ^ lane / 4 % 2);
    const u8* source = from + lane * 128;
    u8* target = to + column * 128;
    const int target_chunk = lane / 16 ^ column % 8;
    const auto chunk_of = [&](int block) { return warp + block / kGroups * kLayout.preparers; };
    const auto is_there = [&](int block) {
      return block < kBlocks && (kChunks % kLayout.preparers == 0 || chunk_of(block) < kChunks);
    };
    u32 r[2][kTogether][4];
    const auto read = [&](int begin, u32(&to_registers)[kTogether][4]) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int block = begin + i, chunk = chunk_of(block);
        if (!is_there(block)) break;
        tile::ldmatrix_x4_trans(to_registers[i], source + chunk / 8 * (c.tile_kv * 128) +
                                                     (chunk % 8 ^ lane % 8) * 16 +
                                                     block % kGroups * (32 * 128));
      }
    };
    read(0, r[0]);
#pragma unroll
    for (int begin = 0; begin < kBlocks; begin += kTogether) {
      u32(&now)[kTogether][4] = r[begin / kTogether % 2];
      read(begin + kTogether, r[(begin / kTogether + 1) % 2]);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int block = begin + i;
        if (!is_there(block)) break;
        tile::stmatrix_x4(
            target + chunk_of(block) * (16 * 128) + (target_chunk ^ block % kGroups * 2) * 16,
            tile::permute_bytes(now[i][0], now[i][1], first),
            tile::permute_bytes(now[i][0], now[i][1], second),
            tile::permute_bytes(now[i][2], now[i][3], first),
            tile::permute_bytes(now[i][2], now[i][3], second));
      }
    }
  }

  static_assert(kLayout.raw_v_stages == kLayout.v_stages, "one position serves both rings");
  using VRing = Ring<kLayout.v_stages>;

  // The next tile of V, of which `rows` tokens are there.
  __forceinline__ void transpose_tile(const VRing& ring, int rows) const {
    smem.raw_v_full(ring.stage).wait(ring.parity);
    smem.v_empty(ring.stage).wait(ring.parity ^ 1);
    if (rows < c.tile_kv) clear(smem.raw_v(ring.stage), rows);
    transpose(smem.raw_v(ring.stage), smem.v(ring.stage));
    tile::fence_async_proxy();
    tile::sync_warp();
    if (tile::lane_index() == 0) {
      smem.raw_v_empty(ring.stage).arrive();
      smem.v_full(ring.stage).arrive();
    }
  }

  // All of them, in the order of the items.
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
