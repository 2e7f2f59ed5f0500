// Properties of the plan of a cascade: whatever the levels, every row gets every token of each of
// its groups once, and is written once.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "plan/attention.h"

namespace quire::plan {
namespace {

using kernels::MergeItem;
using kernels::WorkItem;

// Requests of all levels, with one of no rows between two levels, as the operator makes them.
struct Input {
  std::vector<std::int32_t> qo_lens, kv_lens, first_requests;
  AttentionTile tile;
  AttentionProblem problem;
};

// Runs of neighbours joined to groups.
std::vector<std::int32_t> grouped(const std::vector<std::int32_t>& qo_lens) {
  std::vector<std::int32_t> groups;
  for (std::size_t i = 0; i < qo_lens.size();) {
    const auto end = std::min(qo_lens.size(), i + *rc::gen::inRange<std::size_t>(1, 6));
    groups.push_back(std::accumulate(qo_lens.begin() + static_cast<std::ptrdiff_t>(i),
                                     qo_lens.begin() + static_cast<std::ptrdiff_t>(end), 0));
    i = end;
  }
  return groups;
}

Input any_input() {
  Input in;
  const auto batch = *rc::gen::inRange<std::size_t>(0, 16);
  const int longest_q = *rc::gen::element(1, 3, 40), longest_kv = *rc::gen::element(3, 80, 1000);
  std::vector<std::vector<std::int32_t>> levels{
      *rc::gen::container<std::vector<std::int32_t>>(batch, rc::gen::inRange(0, longest_q + 1))};
  const int num_levels = *rc::gen::inRange(2, 5);
  while (static_cast<int>(levels.size()) < num_levels) {
    levels.insert(levels.begin(), grouped(levels.front()));
  }
  for (const auto& level : levels) {
    if (!in.first_requests.empty()) {
      in.qo_lens.push_back(0);
      in.kv_lens.push_back(0);
    }
    in.first_requests.push_back(static_cast<std::int32_t>(in.qo_lens.size()));
    for (const std::int32_t qo_len : level) {
      in.qo_lens.push_back(qo_len);
      in.kv_lens.push_back(*rc::gen::inRange(0, 4) == 0 ? 0 : *rc::gen::inRange(0, longest_kv));
    }
  }
  in.tile = {.num_workers = *rc::gen::element(1, 7, 132),
             .tile_q = *rc::gen::element(4, 16, 64),
             .tile_kv = *rc::gen::element(8, 16),
             .cached_tokens = *rc::gen::element(0, 100, 1000)};
  in.problem.group_size = *rc::gen::element(1, 3, 8);
  in.problem.num_kv_heads = *rc::gen::inRange(1, 4);
  in.problem.causal = *rc::gen::arbitrary<bool>();
  in.problem.fixed_split_size = *rc::gen::element(0, 0, 0, 13, 64);
  in.problem.disable_split_kv = *rc::gen::weightedElement<bool>({{4, false}, {1, true}});
  return in;
}

AttentionProblem problem_of(const Input& in) {
  AttentionProblem problem = in.problem;
  problem.qo_lens = in.qo_lens;
  problem.kv_lens = in.kv_lens;
  problem.first_requests = in.first_requests;
  return problem;
}

// The first packed row of each request, among all rows of its level.
std::vector<int> first_rows(const Input& in) {
  std::vector<int> rows;
  int next = 0;
  for (std::size_t r = 0; r < in.qo_lens.size(); ++r) {
    if (std::ranges::binary_search(in.first_requests, static_cast<std::int32_t>(r))) next = 0;
    rows.push_back(next);
    next += in.qo_lens[r] * in.problem.group_size;
  }
  return rows;
}

struct Part {
  int head, row;  // of all packed rows of the level
  int request, kv_begin, kv_end;
};

// The rows that an item leaves results of, from its partial row on where it has one.
std::vector<Part> parts_of(const Input& in, const std::vector<int>& first, const WorkItem& item) {
  const auto r = static_cast<std::size_t>(item.request);
  const int rows = std::min(in.tile.tile_q, in.qo_lens[r] * in.problem.group_size - item.q_begin);
  std::vector<Part> parts;
  for (int i = 0; i < rows; ++i) {
    parts.push_back(
        {item.kv_head, first[r] + item.q_begin + i, item.request, item.kv_begin, item.kv_end});
  }
  return parts;
}

// What each (head, row) is made of, in every place that writes it.
using Written = std::map<std::pair<int, int>, std::vector<std::vector<Part>>>;

void add_merges(const Input& in, const std::vector<int>& first, const AttentionPlan& plan,
                std::vector<std::vector<Part>>& partials, Written& written) {
  const std::size_t levels = in.first_requests.size();
  RC_ASSERT(plan.merges.size() % levels == 0);
  for (std::size_t m = 0; m < plan.merges.size(); m += levels) {
    const MergeItem& merge = plan.merges[m];
    RC_ASSERT(merge.num_rows > 0 && merge.num_rows <= in.tile.tile_q);
    for (int i = 0; i < merge.num_rows; ++i) {
      const int row = first[static_cast<std::size_t>(merge.request)] + merge.q_begin + i;
      std::vector<Part> parts;
      for (std::size_t l = 0; l < levels; ++l) {
        const MergeItem& item = plan.merges[m + l];
        RC_ASSERT(item.request == merge.request && item.kv_head == merge.kv_head &&
                  item.q_begin == merge.q_begin && item.num_rows == merge.num_rows);
        for (int s = 0; s < item.num_parts; ++s) {
          auto& partial =
              partials.at(static_cast<std::size_t>(item.partial_row + s * item.part_stride + i));
          RC_ASSERT(partial.size() == 1u);  // written once, and merged once
          RC_ASSERT(partial[0].head == merge.kv_head && partial[0].row == row);
          parts.push_back(partial[0]);
          partial.clear();
        }
      }
      written[{merge.kv_head, row}].push_back(parts);
    }
  }
}

// Every token of the request that has the row in each level.
void expect_all_tokens(const Input& in, const std::vector<int>& first, int row,
                       const std::vector<Part>& parts) {
  std::map<int, std::vector<std::pair<int, int>>> ranges;
  for (const Part& part : parts) ranges[part.request].push_back({part.kv_begin, part.kv_end});
  for (std::size_t r = 0; r < in.qo_lens.size(); ++r) {
    const bool has_row = row >= first[r] && row < first[r] + in.qo_lens[r] * in.problem.group_size;
    auto& of_request = ranges[static_cast<int>(r)];
    std::ranges::sort(of_request);
    int at = 0;
    for (const auto& [begin, end] : of_request) {
      RC_ASSERT(begin == at && end > begin);
      at = end;
    }
    RC_ASSERT(at == (has_row ? in.kv_lens[r] : 0));
  }
}

RC_GTEST_PROP(CascadePlan, EveryRowGetsEveryTokenOfItsGroupsOnce, ()) {
  const Input in = any_input();
  const std::vector<int> first = first_rows(in);
  const AttentionPlan plan = plan_attention(problem_of(in), in.tile);
  Written written;
  std::vector<std::vector<Part>> partials(static_cast<std::size_t>(plan.num_partial_rows));
  for (const WorkItem& item : plan.items) {
    int partial_row = item.partial_row;
    for (const Part& part : parts_of(in, first, item)) {
      if (partial_row < 0) {
        written[{part.head, part.row}].push_back({part});
      } else {
        partials.at(static_cast<std::size_t>(partial_row++)).push_back(part);
      }
    }
  }
  add_merges(in, first, plan, partials, written);
  RC_ASSERT(std::ranges::all_of(partials, [](const auto& p) { return p.empty(); }));
  const int rows =
      std::accumulate(in.qo_lens.begin() + in.first_requests.back(), in.qo_lens.end(), 0) *
      in.problem.group_size;
  RC_ASSERT(static_cast<int>(written.size()) == rows * in.problem.num_kv_heads);
  for (const auto& [head_and_row, places] : written) {
    RC_ASSERT(places.size() == 1u);
    expect_all_tokens(in, first, head_and_row.second, places[0]);
  }
}

// 64 requests of group size 4 behind one prefix: what they share is read a tile of 64 rows at a
// time, and no worker waits for another.
TEST(CascadePlan, SharedPrefixIsReadOnceATile) {
  std::vector<std::int32_t> qo_lens{64, 0}, kv_lens{8192, 0};
  qo_lens.insert(qo_lens.end(), 64, 1);
  kv_lens.insert(kv_lens.end(), 64, 512);
  const std::vector<std::int32_t> first_requests{0, 2};
  const AttentionTile tile{.num_workers = 132, .tile_q = 64, .tile_kv = 128};
  const AttentionProblem problem{.qo_lens = qo_lens,
                                 .kv_lens = kv_lens,
                                 .group_size = 4,
                                 .num_kv_heads = 8,
                                 .first_requests = first_requests};
  const AttentionPlan plan = plan_attention(problem, tile);
  std::int64_t tokens = 0;
  for (const WorkItem& item : plan.items) tokens += item.kv_end - item.kv_begin;
  EXPECT_EQ(tokens, 8 * (4 * 8192 + 64 * 512));
  EXPECT_EQ(plan.merges.size(), 2u * 8 * 64);
  double total = 0, most = 0;
  for (std::size_t w = 0; w < 132; ++w) {
    double load = 0;
    for (int i = plan.worker_indptr[w]; i < plan.worker_indptr[w + 1]; ++i) {
      load += item_cost(plan.items[static_cast<std::size_t>(i)], problem, tile);
    }
    total += load;
    most = std::max(most, load);
  }
  EXPECT_LE(most, 1.15 * total / 132);
}

// Rows whose only tokens are one item's need no merge.
TEST(CascadePlan, LevelsWithoutTokensCostNothing) {
  const std::vector<std::int32_t> qo_lens{3, 0, 1, 2}, kv_lens{0, 0, 40, 50};
  const std::vector<std::int32_t> first_requests{0, 2};
  const AttentionPlan plan =
      plan_attention({.qo_lens = qo_lens, .kv_lens = kv_lens, .first_requests = first_requests},
                     {.num_workers = 2});
  EXPECT_TRUE(plan.merges.empty());
  EXPECT_EQ(plan.num_partial_rows, 0);
  EXPECT_EQ(plan.items.size(), 2u);
}

}  // namespace
}  // namespace quire::plan
