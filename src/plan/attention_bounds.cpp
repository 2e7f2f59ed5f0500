#include "plan/attention_bounds.h"

#include <algorithm>
#include <cmath>

#include "plan/kv_split.h"

namespace quire::plan {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// All requests are one tile of packed rows: LinePlan plans them. Only workers' boundaries cut.
bool is_line(const AttentionLimits& limits, const AttentionProblem& problem,
             const AttentionTile& tile) {
  return limits.max_qo_len <= tile.tile_q / problem.group_size;
}

// Parts beyond the first of each row tile, over all KV heads.
std::int64_t extra_parts(const AttentionLimits& limits, const AttentionProblem& problem,
                         const AttentionTile& tile) {
  if (problem.disable_split_kv) return 0;
  if (problem.fixed_split_size > 0) {
    const std::int64_t tiles_of_a_request =
        ceil_div(limits.max_qo_len * problem.group_size, tile.tile_q);
    return tiles_of_a_request * (limits.total_kv / problem.fixed_split_size) * problem.num_kv_heads;
  }
  if (is_line(limits, problem, tile)) return tile.num_workers - 1;
  // A part has at least this share of total / num_workers steps.
  return static_cast<std::int64_t>(std::ceil(tile.num_workers / kSmallestPartOfFairShare));
}

}  // namespace

AttentionBounds attention_bounds(const AttentionLimits& limits, const AttentionProblem& problem,
                                 const AttentionTile& tile) {
  const std::int64_t rows = limits.total_q * problem.group_size;
  const std::int64_t requests = std::min(limits.batch_size, limits.total_q);
  // One tile of each request is not full.
  const std::int64_t tiles =
      is_line(limits, problem, tile) ? requests : rows / tile.tile_q + requests;
  const std::int64_t extra = extra_parts(limits, problem, tile);
  const std::int64_t rows_of_a_tile =
      std::min<std::int64_t>(tile.tile_q, limits.max_qo_len * problem.group_size);
  // Either every tile is split, or each extra part splits one tile more.
  const std::int64_t first_parts = std::min(rows * problem.num_kv_heads, extra * rows_of_a_tile);
  AttentionBounds bounds;
  bounds.num_items = tiles * problem.num_kv_heads + extra;
  bounds.num_merges = tile.merges_itself ? 0 : tiles * problem.num_kv_heads;
  bounds.num_partial_rows = first_parts + extra * rows_of_a_tile;
  return bounds;
}

}  // namespace quire::plan
