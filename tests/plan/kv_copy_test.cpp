// Copies of K and V before the attention of prompts: when, and of which requests.
#include "plan/kv_copy.h"

#include <gtest/gtest.h>

#include <vector>

#include "plan/mixed_plan.h"

namespace quire::plan {
namespace {

struct Batch {
  std::vector<std::int32_t> qo_lens, kv_lens;
  bool causal = false;
  int window_left = -1;

  AttentionProblem problem() const {
    return {.qo_lens = qo_lens,
            .kv_lens = kv_lens,
            .group_size = 4,
            .num_kv_heads = 2,
            .causal = causal,
            .window_left = window_left};
  }
};

bool pays(const Batch& batch, const KvCopyCost& cost, std::int64_t most_few = 0) {
  return copying_pays(batch.problem(), most_few, cost);
}

TEST(KvCopy, PaysWhereRowsOfAllRequestsGainMoreThanTheirTokensCost) {
  const KvCopyCost cost{.lost = 0.5, .token = 100};
  EXPECT_TRUE(pays({{51}, {1000}}, cost));  // half of 204 rows
  EXPECT_FALSE(pays({{49}, {1000}}, cost));
  EXPECT_FALSE(pays({{51}, {1000}}, {.lost = 0, .token = 0}));
  EXPECT_TRUE(pays({{51, 100}, {1000, 2000}}, cost));
  EXPECT_FALSE(pays({{51, 1}, {1000, 2000}}, cost));
  EXPECT_FALSE(pays({{0, 0}, {1000, 0}}, cost));
}

TEST(KvCopy, CountsWhatRowsSee) {
  const KvCopyCost cost{.lost = 0.5, .token = 100};
  EXPECT_TRUE(pays({.qo_lens = {60}, .kv_lens = {60}}, cost));
  EXPECT_FALSE(pays({.qo_lens = {60}, .kv_lens = {60}, .causal = true}, cost));
  EXPECT_TRUE(pays({.qo_lens = {110}, .kv_lens = {110}, .causal = true}, cost));
  EXPECT_FALSE(pays({.qo_lens = {110}, .kv_lens = {1000}, .window_left = 99}, cost));
}

TEST(KvCopy, StartsOnce) {
  const KvCopyCost cost{.lost = 0.5, .token = 100, .start = 8000};
  EXPECT_FALSE(pays({{51}, {1000}}, cost));  // 2 of 102 a token and head
  EXPECT_TRUE(pays({{51}, {2001}}, cost));
}

TEST(KvCopy, LeavesOutRequestsOfFewRows) {
  const KvCopyCost cost{.lost = 0.5, .token = 100};
  const Batch batch{{51, 1, 0, 2}, {1000, 2000, 30, 4}};
  EXPECT_TRUE(pays(batch, cost, 4));
  EXPECT_FALSE(pays(batch, cost, 0));
  EXPECT_EQ(num_copied_tokens(batch.problem(), 4), 1004);
  EXPECT_EQ(num_copied_tokens(batch.problem(), 0), 3004);
  EXPECT_EQ(num_copied_tokens(batch.problem(), 1000), 0);
  std::vector<std::int32_t> indptr{7};
  place_copied_tokens(batch.problem(), 4, indptr);
  EXPECT_EQ(indptr, (std::vector<std::int32_t>{0, 1000, 1000, 1000, 1004}));
  place_copied_tokens(batch.problem(), 0, indptr);
  EXPECT_EQ(indptr, (std::vector<std::int32_t>{0, 1000, 3000, 3000, 3004}));
}

TEST(KvCopy, TheShareOfSingleTokensIsOfBothKernelsAtOnce) {
  const Batch batch{{128, 1, 1, 0}, {1000, 500, 1500, 70}};
  AttentionTile tile{.num_workers = 8, .tile_q = 128};
  EXPECT_EQ(few_share(batch.problem(), tile), 0);  // there is no second kernel
  tile.few = {.tile_q = 8, .token_cost = 2};
  EXPECT_DOUBLE_EQ(few_share(batch.problem(), tile), 0.5);  // 2 of 2000 and 4 tiles of 1000 tokens
  tile.few.many_start = 500;
  EXPECT_DOUBLE_EQ(few_share(batch.problem(), tile), 0.4);
  tile.few.two = TwoKernels::few_first;
  EXPECT_EQ(few_share(batch.problem(), tile), 0);
}

}  // namespace
}  // namespace quire::plan
