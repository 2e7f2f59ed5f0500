// Planning batches of prompts and single tokens for two kernels at once, each on workers of its
// own: prompts wait for products, single tokens for memory, so that both are busy.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/attention.h"
#include "plan/line_plan.h"
#include "plan/tile_plan.h"

namespace quire::plan {

// Whether single tokens and longer requests both have enough work for that to pay.
bool mixing_pays(const AttentionProblem& problem);

// The single tokens' share of the work of a batch that two kernels do at once; 0 where they do not.
double few_share(const AttentionProblem& problem, const AttentionTile& tile);

class MixedPlan {
 public:
  // Parts the batch and the workers, where there is tile.few and requests of both kinds.
  bool choose(const AttentionProblem& problem, const AttentionTile& tile);
  // What choose() has chosen, for the same problem. Allocates nothing that an earlier call of this
  // size has allocated. Throws Error when a count exceeds 32 bits.
  AttentionPlanSize prepare(const AttentionProblem& problem, const AttentionTile& tile);
  void write(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const;

 private:
  // A request is in one of the two; in the other it has no rows.
  std::vector<std::int32_t> few_lens_, many_lens_;  // [batch]
  LinePlan few_;
  TilePlan many_;
  AttentionPlanSize few_size_, many_size_;
  int num_few_workers_ = 0, num_many_workers_ = 0;
};

}  // namespace quire::plan
