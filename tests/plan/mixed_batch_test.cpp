// The order of work in batches of prompts and single tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "plan/attention.h"

namespace quire::plan {
namespace {

using kernels::WorkItem;

std::span<const WorkItem> items_of(const AttentionPlan& plan, std::size_t worker) {
  const auto begin = static_cast<std::size_t>(plan.worker_indptr[worker]);
  const auto end = static_cast<std::size_t>(plan.worker_indptr[worker + 1]);
  return std::span(plan.items).subspan(begin, end - begin);
}

TEST(MixedBatch, HalfOfTheWorkersBeginWithWhatWaitsForMemory) {
  constexpr std::size_t kWorkers = 4;
  std::vector<std::int32_t> qo_lens(32, 1), kv_lens(32, 1024);
  qo_lens.push_back(1024);
  kv_lens.push_back(1024);
  const AttentionPlan plan =
      plan_attention({.qo_lens = qo_lens, .kv_lens = kv_lens, .num_kv_heads = 2},
                     {.num_workers = kWorkers, .tile_q = 64, .tile_kv = 64});
  const auto is_decode = [](const WorkItem& item) { return item.request < 32; };
  for (std::size_t w = 0; w < kWorkers; ++w) {
    const std::span items = items_of(plan, w);
    EXPECT_TRUE(std::ranges::any_of(items, is_decode));
    EXPECT_FALSE(std::ranges::all_of(items, is_decode));
    const bool decodes_first = w % 2 == 1;
    EXPECT_TRUE(std::ranges::is_partitioned(
        items, [&](const WorkItem& item) { return is_decode(item) == decodes_first; }));
  }
}

TEST(MixedBatch, AFewSingleTokensDoNotPartTheWorkers) {
  const std::vector<std::int32_t> qo_lens{4096, 1}, kv_lens{4096, 128};
  const AttentionPlan plan =
      plan_attention({.qo_lens = qo_lens, .kv_lens = kv_lens, .num_kv_heads = 2},
                     {.num_workers = 2, .tile_q = 64, .tile_kv = 64});
  for (std::size_t w = 0; w < 2; ++w) EXPECT_EQ(items_of(plan, w).front().request, 0);
}

}  // namespace
}  // namespace quire::plan
