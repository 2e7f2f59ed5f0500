// No plan of lengths within the limits is larger than its bounds.
#include "plan/attention_bounds.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace quire::plan {
namespace {

RC_GTEST_PROP(AttentionBounds, HoldForEveryPlan, ()) {
  const auto batch = static_cast<std::size_t>(*rc::gen::inRange(0, 12));
  const int longest_q = *rc::gen::element(1, 3, 60);
  const auto qo_lens =
      *rc::gen::container<std::vector<std::int32_t>>(batch, rc::gen::inRange(0, longest_q + 1));
  const auto kv_lens =
      *rc::gen::container<std::vector<std::int32_t>>(batch, rc::gen::inRange(0, 3000));
  const AttentionTile tile{.num_workers = *rc::gen::element(1, 2, 7, 132),
                           .tile_q = *rc::gen::element(4, 16, 64),
                           .tile_kv = *rc::gen::element(8, 16, 64),
                           .merges_itself = *rc::gen::arbitrary<bool>()};
  AttentionProblem problem{.qo_lens = qo_lens, .kv_lens = kv_lens};
  problem.group_size = *rc::gen::element(1, 3, 8);
  problem.num_kv_heads = *rc::gen::inRange(1, 5);
  problem.causal = *rc::gen::arbitrary<bool>();
  problem.window_left = *rc::gen::element(-1, 0, 17, 500);
  problem.fixed_split_size = *rc::gen::element(0, 0, 13, 64);
  problem.disable_split_kv = *rc::gen::arbitrary<bool>();

  const AttentionBounds bounds = attention_bounds(
      {.batch_size = static_cast<std::int64_t>(batch),
       .total_q = std::accumulate(qo_lens.begin(), qo_lens.end(), std::int64_t{0}),
       .max_qo_len = longest_q,
       .total_kv = std::accumulate(kv_lens.begin(), kv_lens.end(), std::int64_t{0})},
      problem, tile);
  const AttentionPlan plan = plan_attention(problem, tile);
  RC_ASSERT(static_cast<std::int64_t>(plan.items.size()) <= bounds.num_items);
  RC_ASSERT(static_cast<std::int64_t>(plan.merges.size()) <= bounds.num_merges);
  RC_ASSERT(plan.num_partial_rows <= bounds.num_partial_rows);
}

}  // namespace
}  // namespace quire::plan
