// Shared memory of attention_decode, by name.
#pragma once

#include "attention/attention_decode_layout.h"
#include "attention/attention_decode_types.h"
#include "attention/logits.h"
#include "tile/cp_async.h"

namespace quire::kernels {

// A work item, ready to be worked on. Without rows, tokens and parts when it points nowhere; of
// scores that are NaN, and so are its rows, when its length does not fit.
struct DecodeItem {
  WorkTile tile;  // partial_row: of its row 0; the one of row r is r * num_parts rows further on
  int first_partial_row, num_parts;
  float to_base2;  // of its scores
};
static_assert(sizeof(DecodeItem) <= kDecodeItemBytes);

template <AttentionConfig c>
inline DecodeItem make_decode_item(const AttentionParams& p, const WorkItem& item) {
  DecodeItem d{make_work_tile(p, item, c.tile_q, c.tile_kv), item.first_partial_row, item.num_parts,
               0.f};
  WorkTile& t = d.tile;
  d.to_base2 = d.num_parts < 0 ? tile::kNan : Logits<c>::to_base2(p, t.kv_head);
  const i64 end = d.first_partial_row + static_cast<i64>(d.num_parts) * t.num_rows;
  const bool joins = d.first_partial_row >= 0 && d.num_parts >= 2 && end <= p.num_partial_rows;
  if (t.num_rows == 0 || (t.partial_row >= 0 && !joins)) {
    t.num_rows = 0;
    t.kv_begin = t.kv_end = 0;
    t.partial_row = -1;
  }
  if (t.partial_row >= 0) {
    const int part = (t.partial_row - d.first_partial_row) / t.num_rows;
    t.partial_row = d.first_partial_row + tile::min_of(tile::max_of(part, 0), d.num_parts - 1);
  }
  return d;
}

template <AttentionConfig c>
struct DecodeSmem {
  static constexpr DecodeLayout kLayout = decode_layout(c);

  u8* base;

  __forceinline__ u8* ring(int warp) const {
    return base + kLayout.ring + warp * kLayout.ring_bytes;
  }
  // [tile_q][q_row]
  __forceinline__ u16* q(int n) const {
    return reinterpret_cast<u16*>(base + kLayout.q + n % kDecodeQStages * kLayout.q_stage_bytes);
  }
  __forceinline__ float* q_scale(int n) const {
    return reinterpret_cast<float*>(base + kLayout.q_scale) + n % kDecodeQStages * c.tile_q;
  }
  // [8][state_row]
  __forceinline__ float* state(int warp) const {
    return reinterpret_cast<float*>(base + kLayout.state) + warp * 8 * kLayout.state_row;
  }
  // [warps][8]
  __forceinline__ float* row_max() const {
    return reinterpret_cast<float*>(base + kLayout.row_max);
  }
  __forceinline__ float* row_sum() const {
    return reinterpret_cast<float*>(base + kLayout.row_sum);
  }
  // The block's n-th item.
  __forceinline__ DecodeItem& item(int n) const {
    return *reinterpret_cast<DecodeItem*>(base + kLayout.items +
                                          n % kDecodeItems * kDecodeItemBytes);
  }
  // Of half the ring of items, as they are in memory.
  __forceinline__ WorkItem& raw_item(int i) const {
    return reinterpret_cast<WorkItem*>(base + kLayout.raw_items)[i % (kDecodeItems / 2)];
  }
};

}  // namespace quire::kernels
