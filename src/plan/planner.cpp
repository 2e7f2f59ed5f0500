#include "plan/planner.h"

namespace quire::plan {

AttentionPlanSize AttentionPlanner::prepare(const AttentionProblem& problem,
                                            const AttentionTile& tile) {
  way_ = LinePlan::serves(problem, tile) ? Way::line
         : mixed_.choose(problem, tile)  ? Way::mixed
                                         : Way::tiles;
  switch (way_) {
    case Way::line:
      return line_.prepare(problem, tile);
    case Way::mixed:
      return mixed_.prepare(problem, tile);
    default:
      return tiles_.prepare(problem, tile);
  }
}

void AttentionPlanner::write(const AttentionProblem& problem,
                             const AttentionPlanArrays& arrays) const {
  switch (way_) {
    case Way::line:
      return line_.write(problem, arrays);
    case Way::mixed:
      return mixed_.write(problem, arrays);
    default:
      return tiles_.write(arrays);
  }
}

AttentionPlan plan_attention(const AttentionProblem& problem, const AttentionTile& tile) {
  AttentionPlanner planner;
  const AttentionPlanSize size = planner.prepare(problem, tile);
  AttentionPlan plan;
  plan.items.resize(static_cast<std::size_t>(size.num_items));
  plan.worker_indptr.resize(static_cast<std::size_t>(plan_workers(tile, size)) + 1);
  plan.merges.resize(static_cast<std::size_t>(size.num_merges));
  plan.num_partial_rows = static_cast<std::int32_t>(size.num_partial_rows);
  plan.num_few_workers = size.num_few_workers;
  planner.write(problem, {plan.items.data(), plan.worker_indptr.data(), plan.merges.data()});
  return plan;
}

}  // namespace quire::plan
