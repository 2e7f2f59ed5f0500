#include "plan/row_tiles.h"

#include <algorithm>
#include <string>

#include "attention/line_plan.h"
#include "plan/limits.h"
#include "quire/error.h"

namespace quire::plan {

TokenRange visible_tokens(const AttentionProblem& problem, std::int32_t request,
                          std::int32_t q_begin, std::int32_t num_rows) {
  const std::int64_t qo_len = problem.qo_lens[static_cast<std::size_t>(request)];
  const std::int64_t kv_len = problem.kv_lens[static_cast<std::size_t>(request)];
  if (problem.is_group(request)) return {0, static_cast<std::int32_t>(kv_len)};
  // The last token that row i sees under the causal mask is kv_len - qo_len + i.
  const std::int64_t first = kv_len - qo_len + q_begin / problem.group_size;
  const std::int64_t last =
      kv_len - qo_len + (std::int64_t{q_begin} + num_rows - 1) / problem.group_size;
  std::int64_t begin = 0, end = kv_len;
  if (problem.window_left >= 0)
    begin = std::clamp<std::int64_t>(first - problem.window_left, 0, kv_len);
  if (problem.causal) end = std::clamp<std::int64_t>(last + 1, 0, kv_len);
  end = std::max(begin, end);
  return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)};
}

double mean_visible_tokens(const AttentionProblem& problem, std::int32_t qo_len,
                           std::int32_t kv_len) {
  const double tokens = problem.causal ? kv_len - 0.5 * (qo_len - 1) : kv_len;
  return problem.window_left < 0 ? tokens : std::min(tokens, problem.window_left + 1.0);
}

void row_tiles(const AttentionProblem& problem, const AttentionTile& tile,
               std::vector<RowTile>& tiles) {
  std::int64_t count = 0;
  for (const std::int32_t qo_len : problem.qo_lens) {
    const std::int64_t rows = std::int64_t{qo_len} * problem.group_size;
    if (rows > kMaxInt32) {
      throw Error(ErrorCode::invalid_argument, "attention.plan: qo_len * group_size: got " +
                                                   std::to_string(rows) + ", expected at most " +
                                                   std::to_string(kMaxInt32));
    }
    count += (rows + tile.tile_q - 1) / tile.tile_q;
  }
  check_work_items(count * problem.num_kv_heads);
  tiles.clear();
  tiles.reserve(static_cast<std::size_t>(count));
  for (std::size_t r = 0; r < problem.qo_lens.size(); ++r) {
    const auto request = static_cast<std::int32_t>(r);
    const std::int32_t rows = problem.qo_lens[r] * problem.group_size;
    for (std::int64_t q = 0; q < rows; q += tile.tile_q) {
      const auto q_begin = static_cast<std::int32_t>(q);
      const std::int32_t num_rows = std::min(tile.tile_q, rows - q_begin);
      tiles.push_back({request, q_begin, num_rows, problem.kv_lens[r],
                       visible_tokens(problem, request, q_begin, num_rows)});
    }
  }
}

std::int64_t visible_steps(TokenRange part, TokenRange visible, int tile_kv) {
  const std::int64_t begin = std::max(part.begin, visible.begin);
  const std::int64_t end = std::min(part.end, visible.end);
  if (begin >= end) return 0;
  return (end - part.begin + tile_kv - 1) / tile_kv - (begin - part.begin) / tile_kv;
}

std::uint32_t cost_tokens(std::int64_t steps, const AttentionTile& tile,
                          std::int32_t num_partial_rows) {
  return static_cast<std::uint32_t>(steps * tile.tile_kv +
                                    kernels::item_start_cost(tile.tile_kv, tile.merges_itself) +
                                    num_partial_rows);
}

}  // namespace quire::plan
