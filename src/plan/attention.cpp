#include "plan/attention.h"

#include <algorithm>

#include "plan/row_tiles.h"

namespace quire::plan {

double item_cost(const kernels::WorkItem& item, const AttentionProblem& problem,
                 const AttentionTile& tile) {
  const std::int64_t rows =
      std::int64_t{problem.qo_lens[static_cast<std::size_t>(item.request)]} * problem.group_size;
  const auto num_rows =
      static_cast<std::int32_t>(std::min<std::int64_t>(tile.tile_q, rows - item.q_begin));
  const TokenRange visible = visible_tokens(problem, item.request, item.q_begin, num_rows);
  const std::int64_t steps = visible_steps({item.kv_begin, item.kv_end}, visible, tile.tile_kv);
  const std::uint32_t tokens = cost_tokens(steps, tile, item.partial_row >= 0 ? num_rows : 0);
  return static_cast<double>(tokens) / tile.tile_kv;
}

}  // namespace quire::plan
