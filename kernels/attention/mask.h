// Which KV tokens a query row sees: causal, sliding window and packed custom mask.
#pragma once

#include "attention/work_tile.h"

namespace quire::kernels {

// KV tokens [begin, end).
struct Range {
  int begin, end;
};

struct Mask {
  const AttentionParams& p;
  const WorkTile& t;

  // True when every row of the tile sees all tokens of [begin, end).
  bool all_visible(int begin, int end) const {
    if (p.custom_mask || end > t.kv_end) return false;
    if (p.causal && end - 1 > t.position(t.q_begin, p.group_size)) return false;
    return p.window_left < 0 ||
           begin >= i64{t.position(t.q_begin + t.num_rows - 1, p.group_size)} - p.window_left;
  }

  // The tokens that token `q_token` of the request sees, before the custom mask.
  Range visible(int q_token) const {
    const i64 position = static_cast<i64>(t.kv_len) - t.qo_len + q_token;
    Range r{0, t.kv_end};
    if (p.causal && position < r.end) r.end = static_cast<int>(tile::max_of<i64>(position + 1, 0));
    if (p.window_left >= 0 && position > p.window_left) {
      r.begin = static_cast<int>(position - p.window_left);
    }
    return r;
  }

  bool custom_bit(int q_token, int token) const {
    const i64 bit = static_cast<i64>(q_token) * t.kv_len + token;
    const i64 byte = p.mask_indptr[t.request] + bit / 8;
    if (byte < 0 || byte >= p.mask_bytes) return false;
    return p.custom_mask[byte] >> (bit % 8) & 1;
  }
};

}  // namespace quire::kernels
