// What becomes of a row of a work item at its end: the states of the warps that shared its tokens
// are joined, and it is written, to the output or as a partial result.
#pragma once

#include "attention/output_row.h"
#include "attention/work_tile.h"

namespace quire::kernels {

// Normalised output and lse of one row, as seen by the thread that writes a part of it.
struct RowResult {
  float lse;      // base 2
  float o_scale;  // what the joined, unnormalised o is multiplied with
};

// Joins (max, sum) of a row over `parts` warps, `stride` floats apart. part_scale[j] is the factor
// of part j's output. Without softmax the parts are added as they are, lse means nothing.
template <bool softmax, int parts>
inline RowResult join_row(const float* row_max, const float* row_sum, int stride, float to_base2,
                          float (&part_scale)[parts]) {
  if constexpr (!softmax) {
#pragma unroll
    for (int j = 0; j < parts; ++j) part_scale[j] = 1.f;
    return {0.f, 1.f};
  }
  float m = tile::kNegInf;
#pragma unroll
  for (int j = 0; j < parts; ++j) m = tile::max_f32(m, row_max[j * stride]);
  const float offset = m == tile::kNegInf ? 0.f : m * to_base2;
  float sum = 0.f;
#pragma unroll
  for (int j = 0; j < parts; ++j) {
    part_scale[j] = tile::exp2_approx(tile::fma_f32(row_max[j * stride], to_base2, -offset));
    sum += row_sum[j * stride] * part_scale[j];
  }
  if (sum == 0.f) return {tile::kNegInf, 0.f};
  return {offset + tile::log2_approx(sum), 1.f / sum};
}

// Writes some columns of a row of the tile, normalised, and its lse when they are the first.
template <AttentionConfig c, int num_cols>
inline void write_row(const AttentionParams& p, const WorkTile& t, int row, int col,
                      float (&o)[num_cols], RowResult result) {
  const bool first = col == 0;
  if (t.partial_row >= 0) {
    const i64 partial = static_cast<i64>(t.partial_row) + row;
    float* dst = p.partial_o + partial * c.head_dim_vo + col;
#pragma unroll
    for (int i = 0; i < num_cols; ++i) o[i] *= result.o_scale;
    tile::store_by<4>(dst, o);
    if (first) p.partial_lse[partial] = result.lse;
    return;
  }
  const int packed = t.q_begin + row;
  const i64 token = t.first_q_row + packed / p.group_size;
  const i64 head = t.kv_head * p.group_size + packed % p.group_size;
  write_output_row<c>(p, token, head, col, o, result.lse, result.o_scale);
}

}  // namespace quire::kernels
