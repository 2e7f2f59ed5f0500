// Plans of batches whose best plan is known, and errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "plan/attention.h"
#include "quire/error.h"

namespace quire::plan {
namespace {

AttentionPlan plan_of(const std::vector<std::int32_t>& qo_lens,
                      const std::vector<std::int32_t>& kv_lens, AttentionTile tile,
                      AttentionProblem problem = {}) {
  problem.qo_lens = qo_lens;
  problem.kv_lens = kv_lens;
  return plan_attention(problem, tile);
}

constexpr AttentionTile kDecodeTile{.num_workers = 132, .tile_q = 16, .tile_kv = 64};

TEST(AttentionPlan, EmptyBatch) {
  const AttentionPlan plan = plan_of({}, {}, kDecodeTile);
  EXPECT_TRUE(plan.items.empty() && plan.merges.empty());
  EXPECT_EQ(plan.num_partial_rows, 0);
  EXPECT_EQ(plan.partial_bytes(128), 0u);
  EXPECT_EQ(plan.worker_indptr, std::vector<std::int32_t>(133, 0));
}

TEST(AttentionPlan, RequestsWithoutQueriesOrKv) {
  const AttentionPlan plan = plan_of({0, 3}, {500, 0}, kDecodeTile, {.num_kv_heads = 2});
  EXPECT_TRUE(plan.items.empty());
  ASSERT_EQ(plan.merges.size(), 2u);
  for (const kernels::MergeItem& merge : plan.merges) {
    EXPECT_EQ(merge.request, 1);
    EXPECT_EQ(merge.num_rows, 3);
    EXPECT_EQ(merge.num_parts, 0);
  }
}

TEST(AttentionPlan, SpreadsOneLongRequestOverAllWorkers) {
  const AttentionPlan plan = plan_of({1}, {1'000'000}, kDecodeTile, {.group_size = 8});
  ASSERT_EQ(plan.merges.size(), 1u);
  EXPECT_GE(plan.items.size(), 132u);
  for (std::size_t w = 0; w < 132; ++w) {
    EXPECT_LT(plan.worker_indptr[w], plan.worker_indptr[w + 1]) << "idle worker " << w;
  }
}

// One multiprocessor reads all parts of a tile.
TEST(AttentionPlan, CutsFewTokensIntoFewParts) {
  AttentionTile tile{.num_workers = 132, .tile_q = 8, .tile_kv = 16, .merges_itself = true};
  tile.memory_workers = 46;
  const auto num_items = [&](int num_kv_heads, std::int32_t kv_len) {
    return plan_of({1}, {kv_len}, tile, {.group_size = 8, .num_kv_heads = num_kv_heads})
        .items.size();
  };
  EXPECT_EQ(num_items(1, 2048), 18u);
  EXPECT_EQ(num_items(1, 8192), 36u);
  EXPECT_EQ(num_items(1, 32768), 73u);
  EXPECT_EQ(num_items(1, 131072), 132u);
  EXPECT_EQ(num_items(4, 8192), 4u * 18);
  EXPECT_EQ(num_items(8, 8192), 8u * 16);
  EXPECT_EQ(num_items(8, 1024), 8u * 16);  // as many cost little
  EXPECT_EQ(num_items(8, 32768), 8u * 16);
}

// Short requests beside a long one are no reason to cut that into more parts.
TEST(AttentionPlan, CutsALongTileIntoFewPartsBesideShortOnes) {
  AttentionTile tile{.num_workers = 132, .tile_q = 8, .tile_kv = 16, .merges_itself = true};
  tile.memory_workers = 46;
  std::vector<std::int32_t> kv_lens(64, 16);
  kv_lens[10] = 8192;
  const AttentionPlan plan = plan_of(std::vector<std::int32_t>(64, 1), kv_lens, tile,
                                     {.group_size = 8, .num_kv_heads = 1});
  const auto parts = std::ranges::count(plan.items, 10, &kernels::WorkItem::request);
  EXPECT_GE(parts, 16);
  EXPECT_LE(parts, 40);
}

TEST(AttentionPlan, PlansAMillionTokensOfPrefill) {
  const AttentionPlan plan = plan_of({1'000'000}, {1'000'000}, {132, 128, 128},
                                     {.group_size = 4, .num_kv_heads = 8, .causal = true});
  EXPECT_EQ(plan.items.size(), 8u * 31'250);
  EXPECT_TRUE(plan.merges.empty());  // enough rows to share out: no reason to split
}

TEST(AttentionPlan, DoesNotSplitWhatIsEvenAlready) {
  const std::vector<std::int32_t> ones(1024, 1), lens(1024, 1000);
  const AttentionPlan plan = plan_of(ones, lens, kDecodeTile, {.num_kv_heads = 8});
  EXPECT_TRUE(plan.merges.empty());
}

// Half of the workers read as fast as all.
TEST(AttentionPlan, DoesNotSplitWhereWholeTilesKeepTheMemoryBusy) {
  AttentionTile tile{.num_workers = 132, .tile_q = 8, .tile_kv = 16, .merges_itself = true};
  const auto is_split = [&](std::size_t batch, std::int32_t kv_len) {
    const std::vector<std::int32_t> qo_lens(batch, 1), kv_lens(batch, kv_len);
    return plan_of(qo_lens, kv_lens, tile, {.group_size = 8, .num_kv_heads = 4}).num_partial_rows >
           0;
  };
  EXPECT_TRUE(is_split(20, 1024) && is_split(40, 2048));
  tile.memory_workers = 44;
  EXPECT_FALSE(is_split(16, 512) || is_split(20, 1024) || is_split(16, 8192));
  EXPECT_TRUE(is_split(8, 4096));  // 32 tiles
  EXPECT_TRUE(is_split(1, 8192));
  EXPECT_TRUE(is_split(40, 4096));  // 132 tiles, and then 28 alone
  EXPECT_FALSE(is_split(66, 4096));
  EXPECT_TRUE(is_split(67, 4096));  // 268: more than two a worker
}

TEST(AttentionPlan, WorkspaceGrowsWithTheWorkAndNotWithTheBatch) {
  // One long request needs the workspace; short ones beside it need none.
  std::vector<std::int32_t> kv_lens{65536};
  const AttentionPlan alone = plan_of({1}, kv_lens, kDecodeTile, {.group_size = 8});
  kv_lens.insert(kv_lens.end(), 63, 100);
  const std::vector<std::int32_t> ones(64, 1);
  const AttentionPlan batch = plan_of(ones, kv_lens, kDecodeTile, {.group_size = 8});
  EXPECT_GT(alone.num_partial_rows, 0);
  EXPECT_LE(batch.num_partial_rows, alone.num_partial_rows);
  EXPECT_EQ(alone.partial_bytes(128), static_cast<std::size_t>(alone.num_partial_rows) * 129 * 4);
  std::size_t previous = 0;
  for (const int len : {4096, 16384, 65536}) {
    const AttentionPlan split =
        plan_of({1}, {len}, kDecodeTile, {.group_size = 8, .fixed_split_size = 1024});
    EXPECT_EQ(split.num_partial_rows, 8 * len / 1024);  // 8 rows a part, no padding to tile_q
    EXPECT_GT(split.partial_bytes(128), previous);
    previous = split.partial_bytes(128);
  }
}

TEST(AttentionPlan, CausalHintMakesLaterTilesDearer) {
  const std::vector<std::int32_t> len{4096};
  const AttentionTile tile{.num_workers = 1, .tile_q = 64, .tile_kv = 64};
  const AttentionProblem problem{.qo_lens = len, .kv_lens = len, .causal = true};
  const AttentionPlan plan = plan_attention(problem, tile);
  ASSERT_EQ(plan.items.size(), 64u);
  EXPECT_EQ(plan.items.front().q_begin, 4032);  // the longest first
  EXPECT_EQ(plan.items.back().q_begin, 0);
  EXPECT_EQ(item_cost(plan.items.front(), problem, tile), 64.5);
  EXPECT_EQ(item_cost(plan.items.back(), problem, tile), 1.5);
}

TEST(AttentionPlan, EqualItemsKeepTheOrderOfRequestHeadAndRow) {
  const std::vector<std::int32_t> two_tiles(3, 32), lens(3, 256);
  const AttentionPlan plan = plan_of(two_tiles, lens, {3, 16, 64}, {.num_kv_heads = 2});
  for (int w = 0; w < 3; ++w) {
    std::vector<std::tuple<int, int, int>> order;
    for (int i = plan.worker_indptr[static_cast<std::size_t>(w)];
         i < plan.worker_indptr[static_cast<std::size_t>(w) + 1]; ++i) {
      const kernels::WorkItem& item = plan.items[static_cast<std::size_t>(i)];
      order.emplace_back(item.request, item.kv_head, item.q_begin);
    }
    EXPECT_EQ(order.size(), 4u);
    EXPECT_TRUE(std::ranges::is_sorted(order));
  }
}

TEST(AttentionPlan, CountsBeyond32BitsAreErrors) {
  const auto expect_error = [](const std::vector<std::int32_t>& qo,
                               const std::vector<std::int32_t>& kv, AttentionProblem problem,
                               const std::string& text, AttentionTile tile = {1, 16, 16}) {
    try {
      plan_of(qo, kv, tile, problem);
      ADD_FAILURE() << "no error, expected: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), text);
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    }
  };
  constexpr int kMax = std::numeric_limits<std::int32_t>::max();
  expect_error({kMax}, {1}, {.group_size = 8},
               "attention.plan: qo_len * group_size: got 17179869176, expected at most 2147483647");
  expect_error({kMax}, {1}, {.num_kv_heads = 64},
               "attention.plan: work items: got 8589934592, expected at most 2147483647");
  expect_error({1}, {kMax}, {.num_kv_heads = 8, .fixed_split_size = 1},
               "attention.plan: work items: got 17179869176, expected at most 2147483647");
  expect_error({16'000'000}, {2560}, {.fixed_split_size = 16},
               "attention.plan: partial rows of split KV: got 2560000000 or more, expected at most "
               "2147483647; a larger fixed_split_size needs fewer",
               {1, 16'000'000, 16});
}

}  // namespace
}  // namespace quire::plan
