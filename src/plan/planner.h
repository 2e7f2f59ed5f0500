// Planning step after step: what one plan has allocated serves the next.
#pragma once

#include "plan/attention.h"
#include "plan/line_plan.h"
#include "plan/mixed_plan.h"
#include "plan/tile_plan.h"

namespace quire::plan {

class AttentionPlanner {
 public:
  // Chooses splits and workers. Throws Error when a count exceeds 32 bits.
  AttentionPlanSize prepare(const AttentionProblem& problem, const AttentionTile& tile);
  // Writes what prepare() has chosen, for the same problem.
  void write(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const;

 private:
  enum class Way { line, tiles, mixed };

  LinePlan line_;
  TilePlan tiles_;
  MixedPlan mixed_;
  Way way_ = Way::line;
};

}  // namespace quire::plan
