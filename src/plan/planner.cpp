#include "plan/planner.h"

namespace quire::plan {

AttentionPlanSize AttentionPlanner::prepare(const AttentionProblem& problem,
                                            const AttentionTile& tile) {
  is_line_ = LinePlan::serves(problem, tile);
  return is_line_ ? line_.prepare(problem, tile) : tiles_.prepare(problem, tile);
}

void AttentionPlanner::write(const AttentionProblem& problem,
                             const AttentionPlanArrays& arrays) const {
  if (is_line_) {
    line_.write(problem, arrays);
  } else {
    tiles_.write(arrays);
  }
}

AttentionPlan plan_attention(const AttentionProblem& problem, const AttentionTile& tile) {
  AttentionPlanner planner;
  const AttentionPlanSize size = planner.prepare(problem, tile);
  AttentionPlan plan;
  plan.items.resize(static_cast<std::size_t>(size.num_items));
  plan.worker_indptr.resize(static_cast<std::size_t>(tile.num_workers) + 1);
  plan.merges.resize(static_cast<std::size_t>(size.num_merges));
  plan.num_partial_rows = static_cast<std::int32_t>(size.num_partial_rows);
  planner.write(problem, {plan.items.data(), plan.worker_indptr.data(), plan.merges.data()});
  return plan;
}

}  // namespace quire::plan
