// The matrix products of a consumer warpgroup of attention_sm90.
#pragma once

#include "attention/attention_sm90_consumer.h"

namespace quire::kernels {

template <AttentionConfig c>
__forceinline__ void Sm90Consumer<c>::issue_scores() {
  const u64 keys = tile::wgmma::descriptor(smem.k(k_ring.stage));
  // Opaque: kept over the loop, the addresses of all steps take the registers of 16 tokens.
  const u64 rows_of_q =
      kOwnRows
          ? tile::wgmma::descriptor(smem.q(tile::opaque(q_ring.stage)))
          : tile::wgmma::descriptor(smem.q(q_ring.stage) + tile::opaque(warpgroup) * (64 * 128));
#pragma unroll
  for (int step = 0; step < kQkSteps; ++step) {
    const u64 b = tile::wgmma::advance(keys, step / 4 * (c.tile_kv * 128) + step % 4 * 32);
    const u64 a =
        tile::wgmma::advance(rows_of_q, step / 4 * (kLayout.q_stage_rows * 128) + step % 4 * 32);
    if constexpr (kLayout.holds_q) {
      tile::Wgmma<T, c.tile_kv>::rs(s, held_q[step], b, step > 0);
    } else {
      tile::Wgmma<T, c.tile_kv>::ss(s, a, b, step > 0);
    }
  }
  tile::wgmma::commit();
}

template <AttentionConfig c>
__forceinline__ void Sm90Consumer<c>::issue_output(bool accumulate) {
  // V of 16 bits lies by tokens, of 8 bits by columns.
  const u64 values = tile::wgmma::descriptor(smem.v(v_ring.stage), kFp8 ? 0 : c.tile_kv * 128);
  constexpr int kStepBytes = kFp8 ? 32 : 16 * 128;
  // One product of more than 128 columns takes more than the 128 registers that 512 threads
  // start with.
  constexpr bool kTwo = kLayout.threads > 384 && c.head_dim_vo > 128;
  constexpr int kFirst = kTwo ? 128 : c.head_dim_vo, kRest = c.head_dim_vo - kFirst;
  constexpr int kRestBytes = kFp8 ? kFirst * 128 : kFirst / 64 * (c.tile_kv * 128);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const u64 b = tile::wgmma::advance(values, step * kStepBytes);
    multiply<0, kFirst>(step, b, accumulate);
    if constexpr (kRest > 0) {
      multiply<kFirst, kRest>(step, tile::wgmma::advance(b, kRestBytes), accumulate);
    }
  }
  tile::wgmma::commit();
}

template <AttentionConfig c>
template <int first, int columns>
__forceinline__ void Sm90Consumer<c>::multiply(int step, u64 values, bool accumulate) {
  float(&part)[columns / 2] = reinterpret_cast<float(&)[columns / 2]>(o[first / 2]);
  if constexpr (kFp8) {
    tile::Wgmma<T, columns>::rs(part, p[step], values, step > 0 || accumulate);
  } else {
    tile::Wgmma<T, columns>::template rs<true>(part, p[step], values, step > 0 || accumulate);
  }
}

template <AttentionConfig c>
__forceinline__ void Sm90Consumer<c>::hold_rows() {
  if constexpr (kLayout.holds_q) {
    const int lane = tile::lane_index();
    const int row = row_in_stage();
#pragma unroll
    for (int step = 0; step < kQkSteps; ++step) {
      u8* panel = smem.q(q_ring.stage) + step / 4 * (kLayout.q_stage_rows * 128);
      tile::ldmatrix_x4(held_q[step], chunk_address(panel, row, step % 4 * 2 + lane / 16));
    }
  }
}

template <AttentionConfig c>
__forceinline__ void Sm90Consumer<c>::recompute_scores() {
#pragma unroll
  for (int i = 0; i < c.tile_kv / 2; ++i) s[i] = 0.f;
  const int lane = tile::lane_index();
  const int q_row = row_in_stage(), k_row = lane / 16 * 8 + lane % 8;
#pragma unroll 1
  for (int step = 0; step < c.head_dim_qk / 16; ++step) {
    u32 a[4], b[4];
    u8* q_panel = smem.q(q_ring.stage) + step / 4 * (kLayout.q_stage_rows * 128);
    tile::ldmatrix_x4(a, chunk_address(q_panel, q_row, step % 4 * 2 + lane / 16));
    u8* k_panel = smem.k(k_ring.stage) + step / 4 * (c.tile_kv * 128);
    const u8* keys = chunk_address(k_panel, k_row, step % 4 * 2 + lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      tile::ldmatrix_x4(b, keys + i * (16 * 128));
      float(&low)[4] = reinterpret_cast<float(&)[4]>(s[8 * i]);
      float(&high)[4] = reinterpret_cast<float(&)[4]>(s[8 * i + 4]);
      tile::mma_m16n8k16<T>(low, a, b[0], b[1]);
      tile::mma_m16n8k16<T>(high, a, b[2], b[3]);
    }
  }
}

}  // namespace quire::kernels
