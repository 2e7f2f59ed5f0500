// What a warp of attention_decode keeps of a work item, and its two products, transposed: S^T = K
// Q^T and O^T = V^T P^T by mma.m16n8k16. The few packed rows are its N of 8, the tokens, of which
// there are many, its M of 16: a tile of rows costs the same from 1 row to 8.
#pragma once

#include "attention/attention_decode_smem.h"
#include "attention/logits.h"
#include "attention/online_softmax.h"
#include "tile/mma.h"

namespace quire::kernels {

// Where rows of a tile of K or V lie, for one lane's row of ldmatrix. Boxes of rows follow each
// other; a box is [panel][row][128 bytes] with the 128-byte swizzle.
template <int panels>
struct DecodeRow {
  int begin, panel_bytes, swizzle;

  // odd: 0 or 1, added to every (even) chunk asked for.
  __forceinline__ DecodeRow(int row, int odd, int box_shift) {
    const int in_box = row & ((1 << box_shift) - 1);
    begin = (row - in_box) * (panels * 128) + in_box * 128;
    panel_bytes = 128 << box_shift;
    swizzle = row % 8 ^ odd;
  }
  // Of 16 bytes, from the tile's begin.
  __forceinline__ int operator()(int chunk) const {
    return begin + chunk / 8 * panel_bytes + ((chunk % 8 ^ swizzle) << 4);
  }
};

// A tile of K and V and the rows of q, in shared memory.
struct DecodeTile {
  const u8 *k, *v;
  const u16* q;
  const float* q_scale;
};

// K of fp8 comes by ldmatrix as four tokens' bytes a register, which makes elements 4 t to 4 t + 3
// of a step what a thread has of it: q is brought into that order (attention_decode_lookup.h). V
// comes transposed by pairs of columns, and its rows g and g + 8 of a tile are columns 2 g, 2 g
// + 1.
template <AttentionConfig c>
struct DecodeState {
  using Place = TokenMajorScores;
  static constexpr bool kFp8 = is_fp8(c.kv_dtype);  // then products are of f16
  using T = tile::storage_t<kFp8 ? DType::f16 : c.q_dtype>;
  using Kv = tile::storage_t<c.kv_dtype>;
  static constexpr DecodeLayout kLayout = decode_layout(c);
  static constexpr int kTokenTiles = c.tile_kv / 16;
  static constexpr int kSteps = c.head_dim_qk / 16;  // of the first product
  static constexpr int kDimTiles = c.head_dim_vo / 16;
  // One tile of scores would be one chain of products: two halve its latency.
  static constexpr int kChains = c.row_tiles * kTokenTiles == 1 ? 2 : 1;
  // What fills the registers: many accumulators, then q is not kept in them, or addresses of rows
  // to copy. Then those in shared memory are not kept over the tiles.
  static constexpr bool kKeepsQ = c.row_tiles * c.head_dim_vo + c.head_dim_qk <= 256;
  static constexpr bool kCrowded = !kKeepsQ || !c.boxes;
  using Scores = float[c.row_tiles][kTokenTiles][4];

  float o[c.row_tiles][kDimTiles][4];  // dims g, g + 8 of 16 x rows 2 t, 2 t + 1 of 8
  OnlineSoftmax softmax[c.row_tiles];
  u32 q[c.row_tiles][kKeepsQ ? kSteps : 1][2];

  __forceinline__ void begin(const u16* rows) {
#pragma unroll
    for (int n = 0; n < c.row_tiles; ++n) {
      softmax[n] = {};
#pragma unroll
      for (int d = 0; d < kDimTiles; ++d) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[n][d][i] = 0.f;
      }
      if constexpr (kKeepsQ) {
#pragma unroll
        for (int d = 0; d < kSteps; d += 2) {
          u32 b[4];
          load_q(b, rows, n, d);
          q[n][d][0] = b[0], q[n][d][1] = b[1];
          if (d + 1 < kSteps) q[n][d + 1][0] = b[2], q[n][d + 1][1] = b[3];
        }
      }
    }
  }

  // Adds a tile whose first token is `token`.
  __forceinline__ void add(const DecodeTile& in, const AttentionParams& p, const DecodeItem& item,
                           int token, int box_shift) {
    const WorkTile& t = item.tile;
    Scores s;
    multiply_qk(s, in.k, in.q, box_shift);
    if constexpr (kFp8 && c.q_dtype == DType::bf16) scale_rows(s, in.q_scale);
#pragma unroll
    for (int n = 0; n < c.row_tiles; ++n) {
      Logits<c, Place> logits;
      logits.begin(p, t, 8 * n);
      logits.transform(s[n], p, t, token);
      logits.mask(s[n], p, t, token);
      float correction[2];
      softmax[n].template update<Place>(s[n], item.to_base2, correction);
#pragma unroll
      for (int d = 0; d < kDimTiles; ++d) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[n][d][i] *= correction[i % 2];
      }
    }
    multiply_pv(s, in.v, t.kv_begin - token, t.kv_end - token, box_shift);
  }

  // Row tile n, columns from `col` on, to shared memory: state [8][state_row], max and sum [8].
  __forceinline__ void store(int pass_n, int pass_col, float* state, float* row_max,
                             float* row_sum) const {
    const int g = tile::lane_index() / 4, row = Place::first_row();
#pragma unroll
    for (int n = 0; n < c.row_tiles; ++n) {
      if (n != pass_n) continue;
      OnlineSoftmax joined = softmax[n];
      joined.finish<Place>();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (g == 0) {
          row_max[row + half] = joined.row_max[half];
          row_sum[row + half] = joined.row_sum[half];
        }
#pragma unroll
        for (int d = 0; d < kDimTiles; ++d) {
          const int col = 16 * d - pass_col;
          if (col < 0 || col >= kLayout.state_cols) continue;
          float* dst = state + (row + half) * kLayout.state_row + col;
          if constexpr (kFp8) {
            tile::store<2>(dst + 2 * g, {o[n][d][half], o[n][d][half + 2]});
          } else {
            dst[g] = o[n][d][half];
            dst[g + 8] = o[n][d][half + 2];
          }
        }
      }
    }
  }

 private:
  // Operands B of row tile n for steps d and d + 1.
  static __forceinline__ void load_q(u32 (&b)[4], const u16* rows, int n, int d) {
    const int lane = tile::lane_index();
    const int chunk = tile::min_of(2 * d + lane / 8, 2 * kSteps - 1);
    tile::ldmatrix_x4(b, rows + (8 * n + lane % 8) * kLayout.q_row + chunk * 8);
  }

  // Operands A of steps d and d + 1.
  static __forceinline__ void load_k(u32 (&a)[2][4], const u8* k,
                                     const DecodeRow<kLayout.k_panels>& at, int d) {
    if constexpr (kFp8) {
      u32 bytes[4];
      tile::ldmatrix_x4(bytes, k + at(d));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u32 wide[2];
        tile::widen4<Kv>(wide, bytes[i]);
        a[i / 2][i % 2] = wide[0];
        a[i / 2][i % 2 + 2] = wide[1];
      }
    } else {
      tile::ldmatrix_x4(a[0], k + at(2 * d));
      if (d + 1 < kSteps) tile::ldmatrix_x4(a[1], k + at(2 * d + 2));
    }
  }
  // Operands A of tiles d and d + 1 of V's columns. Tokens outside of `keep` are cleared: what lies
  // there may be NaN, and 0 * NaN is NaN.
  static __forceinline__ void load_v(u32 (&a)[2][4], const u8* v,
                                     const DecodeRow<kLayout.v_panels>& at, int d,
                                     const u32 (&keep)[2]) {
    if constexpr (kFp8) {
      u32 bytes[4];
      tile::ldmatrix_x4_trans(bytes, v + at(d));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u32 wide[2];
        tile::widen4<Kv>(wide, tile::permute_bytes(bytes[i] & keep[i % 2], 0, 0x3120));
        a[i / 2][i % 2 * 2] = wide[0];
        a[i / 2][i % 2 * 2 + 1] = wide[1];
      }
    } else {
#pragma unroll
      for (int h = 0; h < 2 && d + h < kDimTiles; ++h) {
        tile::ldmatrix_x4_trans(a[h], v + at(2 * (d + h)));
#pragma unroll
        for (int i = 0; i < 4; ++i) a[h][i] &= keep[i / 2];
      }
    }
  }

  static __forceinline__ void scale_rows(Scores& s, const float* q_scale) {
#pragma unroll
    for (int n = 0; n < c.row_tiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float scale = q_scale[8 * n + Place::first_row() + half];
#pragma unroll
        for (int k = 0; k < 2 * kTokenTiles; ++k) Place::at(s[n], k, half) *= scale;
      }
    }
  }

  __forceinline__ void multiply_qk(Scores& s, const u8* k, const u16* rows, int box_shift) const {
    const int lane = kCrowded ? tile::opaque(tile::lane_index()) : tile::lane_index();
    float chain[kChains][c.row_tiles][kTokenTiles][4] = {};
#pragma unroll
    for (int d = 0; d < kSteps; d += 2) {
#pragma unroll
      for (int j = 0; j < kTokenTiles; ++j) {
        const DecodeRow<kLayout.k_panels> at(16 * j + lane % 16, lane / 16, box_shift);
        u32 a[2][4];
        load_k(a, k, at, d);
#pragma unroll
        for (int n = 0; n < c.row_tiles; ++n) {
          u32 b[4];
          if constexpr (kKeepsQ) {
#pragma unroll
            for (int i = 0; i < 4; ++i) b[i] = q[n][(d + i / 2) % kSteps][i % 2];
          } else {
            load_q(b, rows, n, d);
          }
          tile::mma_m16n8k16<T>(chain[0][n][j], a[0], b[0], b[1]);
          if (d + 1 < kSteps) {
            tile::mma_m16n8k16<T>(chain[kChains - 1][n][j], a[1], b[2], b[3]);
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < c.row_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          s[n][j][i] = chain[0][n][j][i];
          if constexpr (kChains == 2) s[n][j][i] += chain[1][n][j][i];
        }
      }
    }
  }

  // Tokens of the tile are those of [begin, end).
  __forceinline__ void multiply_pv(const Scores& s, const u8* v, int begin, int end,
                                   int box_shift) {
    const int lane = kCrowded ? tile::opaque(tile::lane_index()) : tile::lane_index();
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      u32 b[c.row_tiles][2], keep[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int token = 16 * j + 8 * h + lane % 4 * 2;
        keep[h] = (token >= begin && token < end ? 0x0000ffffu : 0u) |
                  (token + 1 >= begin && token + 1 < end ? 0xffff0000u : 0u);
#pragma unroll
        for (int n = 0; n < c.row_tiles; ++n) {
          b[n][h] = tile::transpose_8x8(tile::pack2<T>(s[n][j][2 * h], s[n][j][2 * h + 1]));
        }
      }
      const int token = kFp8 ? lane % 16 : lane % 8 + lane / 16 * 8;
      const int odd = kFp8 ? lane / 16 : lane / 8 % 2;
      const DecodeRow<kLayout.v_panels> at(16 * j + token, odd, box_shift);
#pragma unroll
      for (int d = 0; d < kDimTiles; d += 2) {
        u32 a[2][4];
        load_v(a, v, at, d, keep);
#pragma unroll
        for (int h = 0; h < 2 && d + h < kDimTiles; ++h) {
#pragma unroll
          for (int n = 0; n < c.row_tiles; ++n) {
            tile::mma_m16n8k16<T>(o[n][d + h], a[h], b[n][0], b[n][1]);
          }
        }
      }
    }
  }
};

}  // namespace quire::kernels
