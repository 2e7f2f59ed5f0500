// The order of work in batches of prompts and single tokens.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "plan/mixed_plan.h"

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

// What two kernels at once get is a plan for each of them, one after the other.
RC_GTEST_PROP(MixedBatch, IsTwoPlansForTwoKernels, ()) {
  const auto singles = static_cast<std::size_t>(*rc::gen::inRange(1, 40));
  std::vector<std::int32_t> qo_lens(singles, 1);
  auto kv_lens =
      *rc::gen::container<std::vector<std::int32_t>>(singles + 3, rc::gen::inRange(0, 3000));
  for (int i = 0; i < 3; ++i) qo_lens.push_back(*rc::gen::inRange(0, 600));
  AttentionProblem problem{.qo_lens = qo_lens,
                           .kv_lens = kv_lens,
                           .group_size = *rc::gen::element(1, 4),
                           .num_kv_heads = *rc::gen::element(1, 2, 8),
                           .causal = *rc::gen::arbitrary<bool>(),
                           .window_left = *rc::gen::element(-1, 500)};
  AttentionTile tile{.num_workers = *rc::gen::element(4, 20, 132), .tile_q = 64, .tile_kv = 64};
  const AttentionPlan one = plan_attention(problem, tile);
  RC_ASSERT(one.num_few_workers == 0);
  AttentionTile both = tile;
  both.few = {.tile_q = 8,
              .tile_kv = 16,
              .two = *rc::gen::element(TwoKernels::at_once, TwoKernels::few_last)};
  const AttentionPlan plan = plan_attention(problem, both);
  RC_CLASSIFY(plan.num_few_workers > 0);
  const auto bytes_equal = [](std::span<const WorkItem> a, std::span<const WorkItem> b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
  };
  if (plan.num_few_workers == 0) {
    RC_ASSERT(bytes_equal(plan.items, one.items));
    return;
  }
  std::vector<std::int32_t> few_lens = qo_lens, many_lens = qo_lens;
  for (std::size_t r = 0; r < qo_lens.size(); ++r) {
    (qo_lens[r] * problem.group_size <= 8 ? many_lens : few_lens)[r] = 0;
  }
  problem.qo_lens = many_lens;
  if (both.few.two == TwoKernels::at_once) tile.num_workers -= plan.num_few_workers;
  AttentionPlan expected = plan_attention(problem, tile);
  problem.qo_lens = few_lens;
  AttentionPlan few = plan_attention(
      problem,
      {.num_workers = plan.num_few_workers, .tile_q = 8, .tile_kv = 16, .merges_itself = true});
  for (WorkItem item : few.items) {
    if (item.partial_row >= 0) item.partial_row += expected.num_partial_rows;
    if (item.partial_row >= 0) item.first_partial_row += expected.num_partial_rows;
    expected.items.push_back(item);
  }
  for (std::size_t w = 1; w < few.worker_indptr.size(); ++w) {
    expected.worker_indptr.push_back(expected.worker_indptr[tile.num_workers] +
                                     few.worker_indptr[w]);
  }
  RC_ASSERT(bytes_equal(plan.items, expected.items));
  RC_ASSERT(plan.worker_indptr == expected.worker_indptr);
  RC_ASSERT(plan.merges.size() == expected.merges.size());
  RC_ASSERT(plan.num_partial_rows == expected.num_partial_rows + few.num_partial_rows);
}

// 128 tokens on 8,192 others each, and one longer request.
struct LongRequest {
  std::vector<std::int32_t> qo_lens = std::vector<std::int32_t>(128, 1);
  std::vector<std::int32_t> kv_lens = std::vector<std::int32_t>(128, 8192);
  AttentionProblem problem{.num_kv_heads = 8, .causal = true};

  LongRequest(int qo_len, int kv_len, int group_size) {
    qo_lens.push_back(qo_len);
    kv_lens.push_back(kv_len);
    problem.qo_lens = qo_lens;
    problem.kv_lens = kv_lens;
    problem.group_size = group_size;
  }
};

TEST(MixedBatch, IsLeftToOneKernelWhereOneKindIsLittle) {
  EXPECT_FALSE(mixing_pays(LongRequest(128, 1024, 4).problem));
  EXPECT_TRUE(mixing_pays(LongRequest(6000, 7000, 4).problem));
  EXPECT_FALSE(mixing_pays(LongRequest(60000, 70000, 4).problem));
}

// Of 132 workers of an H100 those that reading does not need, and no more than leave enough of
// them.
TEST(MixedBatch, PromptsGetTheWorkersThatReadingLeaves) {
  AttentionTile tile{.num_workers = 132, .tile_q = 128, .tile_kv = 128};
  tile.few = {.tile_q = 8, .tile_kv = 16, .token_cost = 0.85, .most_workers = 0.49};
  EXPECT_EQ(plan_attention(LongRequest(6000, 7000, 4).problem, tile).num_few_workers, 64);
  EXPECT_EQ(plan_attention(LongRequest(4096, 8192, 8).problem, tile).num_few_workers, 48);
}

}  // namespace
}  // namespace quire::plan
