// What plan options come to.
#pragma once

#include "quire/attention.h"

namespace quire {

// Tokens, of plans whose results do not depend on the batch. Long enough that a part's start and
// end and the merge are little beside it, short enough that 50,000 tokens keep a GPU busy.
inline constexpr int kBatchInvariantSplit = 2048;
// The packed rows of a request, mean and most, that kernel and tile are chosen for: those of decode
// and prefill alike.
inline constexpr double kBatchInvariantRows = 64;

// Where KV is split: multiples of this many tokens; 0: where the planner likes, or nowhere.
inline int split_size(const AttentionPlanOptions& options) {
  if (options.disable_split_kv) return 0;
  if (options.fixed_split_size > 0) return options.fixed_split_size;
  return options.batch_invariant ? kBatchInvariantSplit : 0;
}

}  // namespace quire
