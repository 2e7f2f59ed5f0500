// How large the plan of a batch can get, whatever the lengths: what a CUDA graph must have room
// for.
#pragma once

#include <cstdint>

#include "plan/attention.h"

namespace quire::plan {

// Limits of the lengths to come.
struct AttentionLimits {
  std::int64_t batch_size = 0;
  std::int64_t total_q = 0;     // rows of q, all requests
  std::int64_t max_qo_len = 0;  // rows of one request
  std::int64_t total_kv = 0;    // tokens, all requests
};

struct AttentionBounds {
  std::int64_t num_items = 0;
  std::int64_t num_merges = 0;
  std::int64_t num_partial_rows = 0;
};

// Bounds of plan_attention() over all lengths within `limits`; `problem` gives heads and how KV may
// be split (its lengths are not read).
AttentionBounds attention_bounds(const AttentionLimits& limits, const AttentionProblem& problem,
                                 const AttentionTile& tile);

}  // namespace quire::plan
