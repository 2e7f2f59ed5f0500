#include "plan/attention_bounds.h"

#include <algorithm>
#include <cmath>

#include "plan/kv_split.h"

namespace quire::plan {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Parts beyond the first of each row tile, over all KV heads.
std::int64_t extra_parts(const AttentionLimits& limits, const AttentionProblem& problem,
                         const AttentionTile& tile) {
  if (problem.disable_split_kv) return 0;
  if (problem.fixed_split_size > 0) {
    const std::int64_t tiles_of_a_request =
        ceil_div(limits.max_qo_len * problem.group_size, tile.tile_q);
    return tiles_of_a_request * (limits.total_kv / problem.fixed_split_size) * problem.num_kv_heads;
  }
  // A part has at least this share of total / num_workers steps.
  return static_cast<std::int64_t>(std::ceil(tile.num_workers / kSmallestPartOfFairShare));
}

}  // namespace

AttentionBounds attention_bounds(const AttentionLimits& limits, const AttentionProblem& problem,
                                 const AttentionTile& tile) {
  const std::int64_t rows = limits.total_q * problem.group_size;
  // One tile of each request is not full.
  const std::int64_t tiles = rows / tile.tile_q + std::min(limits.batch_size, limits.total_q);
  const std::int64_t extra = extra_parts(limits, problem, tile);
  const std::int64_t rows_of_a_tile =
      std::min<std::int64_t>(tile.tile_q, limits.max_qo_len * problem.group_size);
  AttentionBounds bounds;
  bounds.num_items = tiles * problem.num_kv_heads + extra;
  bounds.num_merges = tile.merges_itself ? 0 : tiles * problem.num_kv_heads;
  bounds.num_partial_rows = extra == 0 ? 0 : rows * problem.num_kv_heads + extra * rows_of_a_tile;
  return bounds;
}

}  // namespace quire::plan
