// The scales of a work item: those of whole tensors, times those of its KV head where the cache is
// fp8.
#pragma once

#include "attention/attention_types.h"

namespace quire::kernels {

// Of q k^T. p.q_scales, one a row, are not part of it.
template <AttentionConfig c>
inline float score_scale(const AttentionParams& p, int kv_head) {
  if constexpr (has_head_scales(c)) {
    if (p.k_scales) return p.sm_scale * p.k_scales[kv_head];
  }
  return p.sm_scale;
}

// Of the normalised output.
template <AttentionConfig c>
inline float value_scale(const AttentionParams& p, int kv_head) {
  if constexpr (has_head_scales(c)) {
    if (p.v_scales) return p.v_scale * p.v_scales[kv_head];
  }
  return p.v_scale;
}

}  // namespace quire::kernels
