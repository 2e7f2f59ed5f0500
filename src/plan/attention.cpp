#include "plan/attention.h"

#include <algorithm>
#include <limits>
#include <string>

#include "plan/kv_split.h"
#include "plan/row_tiles.h"
#include "quire/error.h"

namespace quire::plan {
namespace {

// Partial rows of tile t, head h begin at first_row[t] + h * num_parts[t] * num_rows.
struct PartialRows {
  std::vector<std::int32_t> first_row;
  std::int32_t count = 0;
};

PartialRows partial_rows(const AttentionProblem& problem, std::span<const RowTile> tiles,
                         const KvSplit& split) {
  PartialRows rows;
  rows.first_row.resize(tiles.size());
  std::int64_t next = 0;
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    rows.first_row[t] = static_cast<std::int32_t>(next);
    if (split.num_parts[t] <= 1) continue;
    next += std::int64_t{split.num_parts[t]} * tiles[t].num_rows * problem.num_kv_heads;
    if (next > std::numeric_limits<std::int32_t>::max()) {
      throw Error(
          ErrorCode::invalid_argument,
          "attention.plan: partial rows of split KV: got " + std::to_string(next) +
              " or more, expected at most 2147483647; a larger fixed_split_size needs fewer");
    }
  }
  rows.count = static_cast<std::int32_t>(next);
  return rows;
}

void emit_items(const AttentionProblem& problem, const AttentionTile& tile,
                std::span<const RowTile> tiles, const KvSplit& split, const PartialRows& partial,
                AttentionPlan& plan) {
  const int fixed_split_size = problem.disable_split_kv ? 0 : problem.fixed_split_size;
  plan.worker_indptr.assign(static_cast<std::size_t>(tile.num_workers) + 1, 0);
  for (const std::int32_t w : split.workers) ++plan.worker_indptr[static_cast<std::size_t>(w) + 1];
  for (std::size_t w = 1; w < plan.worker_indptr.size(); ++w) {
    plan.worker_indptr[w] += plan.worker_indptr[w - 1];
  }
  std::vector<std::int32_t> next(plan.worker_indptr.begin(), plan.worker_indptr.end() - 1);
  plan.items.resize(split.workers.size());
  const std::int32_t* worker = split.workers.data();
  for (const Job& job : split.jobs) {
    const KvSplit::Part part = split.parts[static_cast<std::size_t>(job.id)];
    const auto t = static_cast<std::size_t>(part.tile);
    const RowTile& row_tile = tiles[t];
    const std::int32_t num_parts = split.num_parts[t];
    const TokenRange tokens =
        part_tokens(row_tile, num_parts, part.index, fixed_split_size, tile.tile_kv);
    for (std::int32_t head = job.first; head < job.first + job.copies; ++head, ++worker) {
      const bool whole = num_parts == 1;
      const std::int32_t first =
          whole ? -1 : partial.first_row[t] + head * num_parts * row_tile.num_rows;
      const std::int32_t row = whole ? -1 : first + part.index * row_tile.num_rows;
      const auto slot = static_cast<std::size_t>(next[static_cast<std::size_t>(*worker)]++);
      plan.items[slot] = {.request = row_tile.request,
                          .kv_head = head,
                          .q_begin = row_tile.q_begin,
                          .kv_begin = tokens.begin,
                          .kv_end = tokens.end,
                          .partial_row = row,
                          .first_partial_row = first,
                          .num_parts = num_parts};
    }
  }
}

void emit_merges(const AttentionProblem& problem, std::span<const RowTile> tiles,
                 const KvSplit& split, const PartialRows& partial, AttentionPlan& plan) {
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const std::int32_t num_parts = split.num_parts[t];
    if (num_parts == 1) continue;
    for (std::int32_t head = 0; head < problem.num_kv_heads; ++head) {
      const std::int32_t row =
          num_parts == 0 ? 0 : partial.first_row[t] + head * num_parts * tiles[t].num_rows;
      plan.merges.push_back(
          {tiles[t].request, head, tiles[t].q_begin, tiles[t].num_rows, row, num_parts});
    }
  }
}

}  // namespace

AttentionPlan plan_attention(const AttentionProblem& problem, const AttentionTile& tile) {
  const std::vector<RowTile> tiles = row_tiles(problem, tile);
  const KvSplit split = choose_split(problem, tile, tiles);
  const PartialRows partial = partial_rows(problem, tiles, split);
  AttentionPlan plan;
  plan.num_partial_rows = partial.count;
  emit_items(problem, tile, tiles, split, partial, plan);
  if (!tile.merges_itself) emit_merges(problem, tiles, split, partial, plan);
  return plan;
}

double item_cost(const kernels::WorkItem& item, const AttentionProblem& problem,
                 const AttentionTile& tile) {
  const std::int64_t rows =
      std::int64_t{problem.qo_lens[static_cast<std::size_t>(item.request)]} * problem.group_size;
  const auto num_rows =
      static_cast<std::int32_t>(std::min<std::int64_t>(tile.tile_q, rows - item.q_begin));
  const TokenRange visible = visible_tokens(problem, item.request, item.q_begin, num_rows);
  const std::int64_t steps = visible_steps({item.kv_begin, item.kv_end}, visible, tile.tile_kv);
  const std::uint32_t tokens =
      cost_tokens(steps, tile.tile_kv, item.partial_row >= 0 ? num_rows : 0);
  return static_cast<double>(tokens) / tile.tile_kv;
}

}  // namespace quire::plan
