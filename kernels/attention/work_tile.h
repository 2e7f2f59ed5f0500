// A work item made safe: ranges clamped so that no array content can lead outside a buffer.
#pragma once

#include "attention/attention_types.h"
#include "tile/math.h"

namespace quire::kernels {

struct WorkTile {
  int request, kv_head;
  int q_begin, num_rows;  // packed rows
  int first_q_row;        // row of q, out and lse of the request's token 0
  int qo_len, kv_len;     // qo_len: of the rows that are among the tokens: none in a group
  int kv_begin, kv_end;   // tokens some row of the tile may see
  int kv_available;       // tokens that are there, of the request's kv_len
  int kv_base;            // first entry of kv_indices, or first row of ragged k and v
  int partial_row;

  // Absolute position of the token of packed row p: it sees kv tokens up to this under causal. Less
  // than kv_len, but in a group.
  int position(int packed_row, int group_size) const {
    return kv_len - qo_len + packed_row / group_size;
  }
};

// num_rows is 0 for an item that points nowhere. Lengths and rows of a request fit 31 bits, which
// the planner checks: with other contents of the arrays the numbers are wrong, but in bounds.
inline WorkTile make_work_tile(const AttentionParams& p, const WorkItem& item, int tile_q,
                               int tile_kv) {
  using tile::max_of;
  using tile::min_of;
  WorkTile t{};
  if (static_cast<u32>(item.request) >= static_cast<u32>(p.batch_size) ||
      static_cast<u32>(item.kv_head) >= static_cast<u32>(p.num_kv_heads) || item.q_begin < 0) {
    return t;
  }
  t.request = item.request;
  t.kv_head = item.kv_head;
  t.q_begin = item.q_begin;
  t.first_q_row = min_of(max_of(p.qo_indptr[t.request], 0), p.total_q);
  const int last_q_row = min_of(max_of(p.qo_indptr[t.request + 1], t.first_q_row), p.total_q);
  t.qo_len = last_q_row - t.first_q_row;
  const int rows = static_cast<int>(static_cast<u32>(t.qo_len) * static_cast<u32>(p.group_size));
  t.num_rows = min_of(max_of(rows, t.q_begin) - t.q_begin, tile_q);
  if (t.request < p.num_groups) t.qo_len = 0;
  t.partial_row = item.partial_row;
  if (t.partial_row >= 0 && t.partial_row > p.num_partial_rows - t.num_rows) t.num_rows = 0;

  t.kv_base = p.kv_indptr[t.request];
  t.kv_len = max_of(p.kv_lens[t.request], 0);
  const i64 available = p.page_size > 0 ? static_cast<i64>(p.num_indices - t.kv_base) * p.page_size
                                        : p.total_kv - t.kv_base;
  t.kv_available =
      t.kv_base < 0 ? 0 : static_cast<int>(max_of<i64>(min_of<i64>(t.kv_len, available), 0));
  t.kv_begin = max_of(item.kv_begin, 0);
  t.kv_end = max_of(min_of(item.kv_end, t.kv_available), 0);
  if (t.num_rows == 0) return t;

  if (p.causal) {
    const int last = t.position(t.q_begin + t.num_rows - 1, p.group_size);
    t.kv_end = min_of(t.kv_end, max_of(last + 1, 0));
  }
  const int first = t.position(t.q_begin, p.group_size);
  if (p.window_left >= 0 && first > p.window_left && first - p.window_left > t.kv_begin) {
    // Whole steps, so that a token is always computed in the same step.
    const int skipped = (first - p.window_left - t.kv_begin) / tile_kv * tile_kv;
    t.kv_begin = min_of(t.kv_begin + skipped, t.kv_end);
  }
  return t;
}

}  // namespace quire::kernels
