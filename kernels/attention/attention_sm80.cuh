// Batch attention by mma.sync and cp.async: every GPU from sm_80 up.
//
// Grid:   num_workers thread blocks; block w takes the work items [worker_indptr[w], [w + 1]).
// Block:  32 * warps_q * warps_kv threads. Warp (i, j) holds rows [i, i + 1) * 16 * row_tiles of
// the
//         tile and works on tokens [j, j + 1) * tile_kv / warps_kv of every step; warps_kv > 1 is
//         for decode, where one tile of rows cannot feed all warps. Their states are joined at the
//         item's end.
// Smem:   sm80_layout(c).bytes: q, num_stages stages of k and v (then the output tile), row tables.
// Output: out and lse, or partial_o and partial_lse of split tiles; every row of every item.
// Needs:  sm_80; q of a 16-bit type, k and v of the same or fp8, then converted to it on the way to
//         shared memory; c.aligned: rows of q, k, v 16-byte aligned.
#pragma once

#include "attention/attention_epilogue.h"
#include "attention/kv_loader.h"
#include "attention/logits.h"
#include "attention/warp_products.h"

namespace quire::kernels {

template <AttentionConfig c>
inline void attend(const AttentionParams& p, const WorkTile& t, u8* smem) {
  constexpr Sm80Layout kLayout = sm80_layout(c);
  using T = tile::storage_t<c.q_dtype>;
  static_assert(sm80_config_valid(c));

  const KvLoader<c> loader{p, t, smem};
  const int num_steps = tile::ceil_div(t.kv_end - t.kv_begin, c.tile_kv);
  const int warp_row = tile::warp_index() / c.warps_kv * 16 * c.row_tiles;
  const int warp_token = tile::warp_index() % c.warps_kv * kLayout.slice_kv;
  const float to_base2 = Logits<c>::to_base2(p, t.kv_head);

  // Step s is loaded while step s - 1 is computed, its rows are looked up one step earlier still.
  loader.find_rows(t.kv_begin, 0);
  loader.load_q();
  tile::sync_block();
  StagedKv<c> staged;
  if (num_steps > 0) {
    loader.begin_step(staged, 0, 0);
    loader.continue_step(staged, 0, 0);
    loader.end_step(staged, 0, 0);
  }
  tile::cp_async::commit();
  loader.find_rows(t.kv_begin + c.tile_kv, 1);

  Logits<c> logits[c.row_tiles];
#pragma unroll
  for (int m = 0; m < c.row_tiles; ++m) logits[m].begin(p, t, warp_row + 16 * m);
  OnlineSoftmax softmax[c.row_tiles];
  OutTile<c> out = {};
  for (int step = 0; step < num_steps; ++step) {
    tile::cp_async::wait<0>();
    tile::sync_block();  // step's k and v are there; nobody uses the other stage or slot any more
    const int next = (step + 1) % 2;  // its slot and its stage
    const bool has_next = step + 1 < num_steps;
    if (has_next) loader.begin_step(staged, next, next);
    tile::cp_async::commit();
    const int kv_begin = t.kv_begin + step * c.tile_kv;
    loader.find_rows(kv_begin + 2 * c.tile_kv, step % 2);

    const u8* k = smem + kLayout.k + step % 2 * kLayout.k_stage_bytes;
    const u8* v = smem + kLayout.v + step % 2 * kLayout.v_stage_bytes;
    ScoreTile<c> score;
    multiply_qk<c, T>(score,
                      reinterpret_cast<const u16*>(smem + kLayout.q) + warp_row * kLayout.qk_row,
                      reinterpret_cast<const u16*>(k) + warp_token * kLayout.qk_row);
    if (has_next) loader.continue_step(staged, next, next);
#pragma unroll
    for (int m = 0; m < c.row_tiles; ++m) {
      logits[m].transform(score[m], p, t, kv_begin + warp_token);
      logits[m].mask(score[m], p, t, kv_begin + warp_token);
      if constexpr (!c.softmax) continue;  // the scores are the weights
      float correction[2];
      softmax[m].update(score[m], to_base2, correction);
#pragma unroll
      for (int n = 0; n < c.head_dim_vo / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) out[m][n][j] *= correction[j / 2];
      }
    }
    multiply_pv<c, T>(out, score, reinterpret_cast<const u16*>(v) + warp_token * kLayout.vo_row);
    if (has_next) loader.end_step(staged, next, next);
  }
#pragma unroll
  for (int m = 0; m < c.row_tiles; ++m) softmax[m].finish();
  tile::cp_async::wait<0>();  // q, when there was no step
  tile::sync_block();         // the epilogue writes where k and v were
  write_tile<c>(p, t, smem, out, softmax, to_base2);
}

template <AttentionConfig c>
inline void attention_sm80(const AttentionParams& p) {
  u8* smem = tile::shared_memory();
  const int worker = tile::block_index();
  const int begin = tile::max_of(p.worker_indptr[worker], 0);
  const int end = tile::min_of(p.worker_indptr[worker + 1], p.num_items);
  for (int i = begin; i < end; ++i) {
    const WorkTile t = make_work_tile(p, p.items[i], c.tile_q, c.tile_kv);
    if (t.num_rows > 0) attend<c>(p, t, smem);
  }
}

}  // namespace quire::kernels
