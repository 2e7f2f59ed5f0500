// Properties of the planner of batch attention that must hold for every input; examples are in
// attention_examples_test.cpp.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <vector>

#include "plan/attention.h"
#include "plan/line_plan.h"

namespace quire::plan {

bool operator==(const AttentionPlan& a, const AttentionPlan& b) {
  // Integers only: equal bytes.
  const auto same = [](const auto& x, const auto& y) {
    return std::memcmp(&x, &y, sizeof(x)) == 0;
  };
  return std::ranges::equal(a.items, b.items, same) &&
         std::ranges::equal(a.merges, b.merges, same) && a.worker_indptr == b.worker_indptr &&
         a.num_partial_rows == b.num_partial_rows;
}

namespace {

using kernels::MergeItem;
using kernels::WorkItem;

struct Input {
  std::vector<std::int32_t> qo_lens, kv_lens;
  AttentionTile tile;
  AttentionProblem problem;
};

// Small tiles, so that few tokens make many items.
Input any_input(bool merges_itself = false) {
  Input in;
  const auto batch = static_cast<std::size_t>(*rc::gen::inRange(0, 12));
  const int longest_q = *rc::gen::element(1, 3, 60);
  const int longest_kv = *rc::gen::element(5, 80, 3000);
  in.qo_lens =
      *rc::gen::container<std::vector<std::int32_t>>(batch, rc::gen::inRange(0, longest_q + 1));
  in.kv_lens =
      *rc::gen::container<std::vector<std::int32_t>>(batch, rc::gen::inRange(0, longest_kv + 1));
  in.tile = {.num_workers = *rc::gen::element(1, 2, 7, 132),
             .tile_q = *rc::gen::element(4, 16, 64),
             .tile_kv = *rc::gen::element(8, 16, 64),
             .cached_tokens = *rc::gen::element(0, 1, 100, 1000),
             .merges_itself = merges_itself};
  in.problem.group_size = *rc::gen::element(1, 3, 8);
  in.problem.num_kv_heads = *rc::gen::inRange(1, 5);
  in.problem.causal = *rc::gen::arbitrary<bool>();
  in.problem.window_left = *rc::gen::element(-1, 0, 17, 500);
  in.problem.fixed_split_size = *rc::gen::element(0, 0, 0, 13, 64);
  in.problem.disable_split_kv = *rc::gen::weightedElement<bool>({{4, false}, {1, true}});
  return in;
}

AttentionProblem problem_of(const Input& in) {
  AttentionProblem problem = in.problem;
  problem.qo_lens = in.qo_lens;
  problem.kv_lens = in.kv_lens;
  return problem;
}

int rows_of(const Input& in, int request) {
  return in.qo_lens[static_cast<std::size_t>(request)] * in.problem.group_size;
}

int tile_rows(const Input& in, int request, int q_begin) {
  return std::min(in.tile.tile_q, rows_of(in, request) - q_begin);
}

// Row tile: (request, kv_head, q_begin).
using TileKey = std::tuple<int, int, int>;

std::set<TileKey> all_tiles(const Input& in) {
  std::set<TileKey> tiles;
  for (int r = 0; r < static_cast<int>(in.qo_lens.size()); ++r) {
    for (int h = 0; h < in.problem.num_kv_heads; ++h) {
      for (int q = 0; q < rows_of(in, r); q += in.tile.tile_q) tiles.insert({r, h, q});
    }
  }
  return tiles;
}

template <class Item>
TileKey key(const Item& item) {
  return {item.request, item.kv_head, item.q_begin};
}

RC_GTEST_PROP(AttentionPlan, CoversEveryRowAndTokenOnce, ()) {
  const Input in = any_input();
  const AttentionPlan plan = plan_attention(problem_of(in), in.tile);
  std::map<TileKey, std::vector<std::pair<int, int>>> ranges;
  for (const WorkItem& item : plan.items) {
    RC_ASSERT(item.kv_begin < item.kv_end);
    ranges[key(item)].push_back({item.kv_begin, item.kv_end});
  }
  std::set<TileKey> without_kv;
  for (const MergeItem& merge : plan.merges) {
    if (merge.num_parts == 0) RC_ASSERT(without_kv.insert(key(merge)).second);
  }
  for (const TileKey& tile : all_tiles(in)) {
    const int kv_len = in.kv_lens[static_cast<std::size_t>(std::get<0>(tile))];
    RC_ASSERT(without_kv.contains(tile) == (kv_len == 0));
    if (kv_len == 0) continue;
    auto parts = ranges.extract(tile);
    RC_ASSERT(!parts.empty());
    std::ranges::sort(parts.mapped());
    int at = 0;
    for (const auto& [begin, end] : parts.mapped()) {
      RC_ASSERT(begin == at);
      at = end;
    }
    RC_ASSERT(at == kv_len);
  }
  RC_ASSERT(ranges.empty());  // nothing for tiles that do not exist
}

// What a kernel that merges itself gets: items for everything, and in them what it must know to
// join the parts of a tile.
RC_GTEST_PROP(AttentionPlan, KernelsThatMergeThemselvesNeedItemsOnly, ()) {
  const Input in = any_input(true);
  const AttentionPlan plan = plan_attention(problem_of(in), in.tile);
  RC_ASSERT(plan.merges.empty());
  std::map<TileKey, std::vector<WorkItem>> parts;
  for (const WorkItem& item : plan.items) parts[key(item)].push_back(item);
  std::set<int> counters;
  for (const TileKey& tile : all_tiles(in)) {
    RC_ASSERT(parts.contains(tile));
    const std::vector<WorkItem> of_tile = parts.extract(tile).mapped();
    const int rows = tile_rows(in, std::get<0>(tile), std::get<2>(tile));
    std::set<int> first_rows;
    int tokens = 0;
    for (const WorkItem& item : of_tile) {
      RC_ASSERT(item.num_parts == static_cast<int>(of_tile.size()));
      RC_ASSERT(item.first_partial_row == of_tile[0].first_partial_row);
      RC_ASSERT((item.partial_row < 0) == (item.num_parts == 1));
      tokens += item.kv_end - item.kv_begin;
      if (item.num_parts == 1) continue;
      first_rows.insert(item.partial_row - item.first_partial_row);
      RC_ASSERT((item.partial_row - item.first_partial_row) % rows == 0);
    }
    RC_ASSERT(tokens == in.kv_lens[static_cast<std::size_t>(std::get<0>(tile))]);
    if (of_tile.size() == 1) continue;
    RC_ASSERT(first_rows.size() == of_tile.size() && *first_rows.begin() == 0);
    RC_ASSERT(*first_rows.rbegin() == rows * (static_cast<int>(of_tile.size()) - 1));
    RC_ASSERT(of_tile[0].first_partial_row + rows * static_cast<int>(of_tile.size()) <=
              plan.num_partial_rows);
    RC_ASSERT(counters.insert(of_tile[0].first_partial_row / 2).second);  // one of its own
  }
  RC_ASSERT(parts.empty());
}

RC_GTEST_PROP(AttentionPlan, PartialRowsAreUsedOnceAndMergedOnce, ()) {
  const Input in = any_input();
  const AttentionPlan plan = plan_attention(problem_of(in), in.tile);
  std::vector<int> written(static_cast<std::size_t>(plan.num_partial_rows), 0);
  std::map<TileKey, std::vector<int>> first_rows;
  std::map<TileKey, int> whole;
  for (const WorkItem& item : plan.items) {
    if (item.partial_row < 0) {
      ++whole[key(item)];
      continue;
    }
    first_rows[key(item)].push_back(item.partial_row);
    for (int i = 0; i < tile_rows(in, item.request, item.q_begin); ++i) {
      ++written.at(static_cast<std::size_t>(item.partial_row + i));
    }
  }
  RC_ASSERT(std::ranges::all_of(written, [](int n) { return n == 1; }));
  for (const MergeItem& merge : plan.merges) {
    RC_ASSERT(merge.num_rows == tile_rows(in, merge.request, merge.q_begin));
    if (merge.num_parts == 0) continue;
    RC_ASSERT(merge.num_parts > 1);
    auto parts = first_rows.extract(key(merge));
    RC_ASSERT(!parts.empty());
    std::ranges::sort(parts.mapped());
    RC_ASSERT(static_cast<int>(parts.mapped().size()) == merge.num_parts);
    for (int s = 0; s < merge.num_parts; ++s) {
      RC_ASSERT(parts.mapped()[static_cast<std::size_t>(s)] ==
                merge.partial_row + s * merge.num_rows);
    }
  }
  RC_ASSERT(first_rows.empty());
  for (const auto& [tile, count] : whole) RC_ASSERT(count == 1);
}

bool is_line(const Input& in) { return LinePlan::serves(problem_of(in), in.tile); }

// Tiles of few rows and of many: see mixed_batch_test.cpp.
bool may_be_mixed(const Input& in) {
  const std::set<TileKey> tiles = all_tiles(in);
  const auto few = std::ranges::count_if(tiles, [&](const TileKey& tile) {
    return tile_rows(in, std::get<0>(tile), std::get<2>(tile)) <= in.tile.tile_q / 4;
  });
  return few > 0 && few < std::ssize(tiles);
}

RC_GTEST_PROP(AttentionPlan, NoWorkerExceedsTheMeanByMoreThanTheLongestItem, ()) {
  const Input in = any_input(*rc::gen::arbitrary<bool>());
  const AttentionProblem problem = problem_of(in);
  const AttentionPlan plan = plan_attention(problem, in.tile);
  RC_ASSERT(plan.worker_indptr.size() == static_cast<std::size_t>(in.tile.num_workers) + 1);
  RC_ASSERT(plan.worker_indptr.front() == 0);
  RC_ASSERT(plan.worker_indptr.back() == static_cast<int>(plan.items.size()));
  RC_ASSERT(std::ranges::is_sorted(plan.worker_indptr));
  double longest = 0;
  std::vector<double> loads;
  for (std::size_t w = 0; w + 1 < plan.worker_indptr.size(); ++w) {
    double load = 0;
    double previous = std::numeric_limits<double>::infinity();
    for (int i = plan.worker_indptr[w]; i < plan.worker_indptr[w + 1]; ++i) {
      const double cost = item_cost(plan.items[static_cast<std::size_t>(i)], problem, in.tile);
      RC_ASSERT(cost > 0);
      // Longest first; with a cache, in each section of what it holds.
      RC_ASSERT(cost <= previous || in.tile.cached_tokens > 0 || is_line(in) || may_be_mixed(in));
      previous = cost;
      longest = std::max(longest, cost);
      load += cost;
    }
    loads.push_back(load);
  }
  const auto [least, most] = std::ranges::minmax_element(loads);
  const double mean = std::accumulate(loads.begin(), loads.end(), 0.0) / in.tile.num_workers;
  // Cuts of a line are at whole steps, and a worker may have parts of two tiles.
  const double rows = std::min<double>(in.tile.tile_q, 60.0 * in.problem.group_size);
  const double parts = is_line(in) ? 3 + 2 * rows / in.tile.tile_kv : 0;
  RC_ASSERT(*most <= mean + longest + parts + 1e-9);
  RC_ASSERT(is_line(in) || *most - *least <= longest + 1e-9);
}

RC_GTEST_PROP(AttentionPlan, IsDeterministic, ()) {
  const Input in = any_input(*rc::gen::arbitrary<bool>());
  RC_ASSERT(plan_attention(problem_of(in), in.tile) == plan_attention(problem_of(in), in.tile));
}

RC_GTEST_PROP(AttentionPlan, SplitsWhereItIsTold, ()) {
  Input in = any_input(*rc::gen::arbitrary<bool>());
  const AttentionPlan plan = plan_attention(problem_of(in), in.tile);
  const int size = in.problem.fixed_split_size;
  for (const WorkItem& item : plan.items) {
    const int kv_len = in.kv_lens[static_cast<std::size_t>(item.request)];
    if (in.problem.disable_split_kv) {
      RC_ASSERT(item.kv_begin == 0 && item.kv_end == kv_len && item.partial_row == -1);
    } else if (size > 0) {
      RC_ASSERT(item.kv_begin % size == 0);
      RC_ASSERT(item.kv_end == std::min(item.kv_begin + size, kv_len));
    } else {
      RC_ASSERT(item.kv_begin % in.tile.tile_kv == 0);
      RC_ASSERT(item.kv_end % in.tile.tile_kv == 0 || item.kv_end == kv_len);
    }
  }
  if (in.problem.disable_split_kv) RC_ASSERT(plan.num_partial_rows == 0);
}

// Parts depend on a request's own lengths only: results do not change with the neighbours.
RC_GTEST_PROP(AttentionPlan, FixedSplitDoesNotDependOnNeighbours, ()) {
  Input in = any_input(*rc::gen::arbitrary<bool>());
  in.problem.fixed_split_size = 32;
  in.problem.disable_split_kv = false;
  RC_PRE(!in.qo_lens.empty());
  const auto ranges_of_first = [](const Input& x) {
    std::multiset<std::tuple<int, int, int, int>> ranges;
    for (const WorkItem& item : plan_attention(problem_of(x), x.tile).items) {
      if (item.request == 0) {
        ranges.insert({item.kv_head, item.q_begin, item.kv_begin, item.kv_end});
      }
    }
    return ranges;
  };
  Input alone = in;
  alone.qo_lens.resize(1);
  alone.kv_lens.resize(1);
  RC_ASSERT(ranges_of_first(in) == ranges_of_first(alone));
}

}  // namespace
}  // namespace quire::plan
