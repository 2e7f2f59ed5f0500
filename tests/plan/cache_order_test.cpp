// The order in which work begins: every head of every job once, what shares K and V together.
#include "plan/cache_order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace quire::plan {
namespace {

struct Work {
  std::vector<RowTile> tiles;
  KvSplit split;
  int num_kv_heads = 0;
  int num_workers = 1;

  // `num_tiles` row tiles of one part each, the later ones longer, as under the causal mask.
  void add_request(int num_tiles, std::int32_t kv_len) {
    const std::int32_t request = tiles.empty() ? 0 : tiles.back().request + 1;
    for (int t = 0; t < num_tiles; ++t) {
      tiles.push_back({.request = request,
                       .q_begin = 64 * t,
                       .num_rows = 64,
                       .kv_len = kv_len,
                       .visible = {0, kv_len}});
      const auto id = static_cast<std::int32_t>(split.jobs.size());
      const auto cost = static_cast<std::uint32_t>(kv_len * (t + 1) / num_tiles);
      split.num_parts.push_back(1);
      split.parts.push_back({id, 0});
      split.jobs.push_back({cost, id, 0, num_kv_heads});
    }
  }

  std::vector<Job> ordered(std::int64_t cached_tokens) {
    Balancer balancer;
    CacheSections sections;
    KvSplit result = split;
    sections.order(result, {tiles, num_kv_heads, num_workers, cached_tokens}, balancer);
    return result.jobs;
  }
};

using Unit = std::pair<std::int32_t, std::int32_t>;  // job, head

// When each unit begins.
std::map<Unit, int> places(const std::vector<Job>& jobs) {
  std::map<Unit, int> result;
  int place = 0;
  for (const Job& job : jobs) {
    for (int head = job.first; head < job.first + job.copies; ++head) {
      EXPECT_TRUE(result.emplace(Unit{job.id, head}, place++).second) << "twice";
    }
  }
  return result;
}

RC_GTEST_PROP(CacheOrder, EveryHeadOfEveryJobIsThereOnce, ()) {
  Work work{.num_kv_heads = *rc::gen::inRange(1, 9), .num_workers = *rc::gen::inRange(1, 40)};
  const int requests = *rc::gen::inRange(1, 6);
  for (int r = 0; r < requests; ++r) {
    work.add_request(*rc::gen::inRange(1, 9), *rc::gen::inRange(1, 5000));
  }
  const auto cached = *rc::gen::inRange<std::int64_t>(0, 20000);
  const auto units = places(work.ordered(cached));
  RC_ASSERT(units.size() == work.split.jobs.size() * static_cast<std::size_t>(work.num_kv_heads));
  for (const auto& [unit, place] : units) {
    RC_ASSERT(unit.second >= 0 && unit.second < work.num_kv_heads);
  }
}

TEST(CacheOrder, WhatFitsIsLongestFirst) {
  Work work{.num_kv_heads = 4};
  work.add_request(8, 1000);
  work.add_request(8, 3000);
  for (const std::int64_t cached : {std::int64_t{0}, std::int64_t{16000}}) {
    const std::vector<Job> jobs = work.ordered(cached);
    EXPECT_TRUE(std::ranges::is_sorted(jobs, std::greater{}, &Job::cost)) << cached;
    for (const Job& job : jobs) EXPECT_EQ(job.copies, 4);
  }
}

// 4 heads of 1000 tokens, of which two heads fit: two sections, each longest first.
TEST(CacheOrder, HeadsThatFitComeTogether) {
  Work work{.num_kv_heads = 4};
  work.add_request(8, 1000);
  const std::vector<Job> jobs = work.ordered(2500);
  ASSERT_EQ(jobs.size(), 16u);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    EXPECT_EQ(jobs[i].first, i < 8 ? 0 : 2);
    EXPECT_EQ(jobs[i].copies, 2);
    if (i % 8 > 0) {
      EXPECT_LE(jobs[i].cost, jobs[i - 1].cost);
    }
  }
}

// As above, but the last two heads are not two items for each worker: one section of all.
TEST(CacheOrder, TheLastSectionEvensOutTheWorkers) {
  Work work{.num_kv_heads = 4, .num_workers = 9};
  work.add_request(8, 1000);
  EXPECT_TRUE(std::ranges::is_sorted(work.ordered(2500), std::greater{}, &Job::cost));
}

// A request of few tiles does not share; its work comes last, where it evens out the workers.
TEST(CacheOrder, WhatNobodySharesComesLast) {
  Work work{.num_kv_heads = 2};
  work.add_request(1, 100000);
  work.add_request(8, 4000);
  work.add_request(8, 4000);
  const std::vector<Job> jobs = work.ordered(8000);
  ASSERT_FALSE(jobs.empty());
  EXPECT_EQ(jobs.back().id, 0);
  const auto when = places(jobs);
  int last_of_first = 0, first_of_second = INT_MAX;
  for (const auto& [unit, place] : when) {
    if (unit.first >= 1 && unit.first <= 8) last_of_first = std::max(last_of_first, place);
    if (unit.first >= 9) first_of_second = std::min(first_of_second, place);
  }
  EXPECT_LT(last_of_first, first_of_second);  // sections of one request each
}

}  // namespace
}  // namespace quire::plan
