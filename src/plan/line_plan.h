// Planning on the host where every request is at most one tile of packed rows: see
// kernels/attention/line_plan.h, whose functions the device's planner shares.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/line_plan.h"
#include "plan/attention.h"

namespace quire::plan {

// The problem as the functions want it that host and device share.
kernels::LineProblem line_problem(const AttentionProblem& problem, const AttentionTile& tile);

class LinePlan {
 public:
  // Whether a batch can be planned this way: a cascade cannot.
  static bool serves(const AttentionProblem& problem, const AttentionTile& tile);

  // Chooses the cuts; allocates nothing that an earlier call of this size has allocated. Throws
  // Error when a count exceeds 32 bits.
  AttentionPlanSize prepare(const AttentionProblem& problem, const AttentionTile& tile);
  // Writes what prepare() has chosen for the same problem.
  void write(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const;

 private:
  std::int32_t rows_of(const AttentionProblem& problem, std::int32_t request) const;
  void add_requests(const AttentionProblem& problem);
  std::int64_t place_starts(const AttentionProblem& problem);
  void place_cuts(const AttentionProblem& problem);
  void write_parts(const AttentionProblem& problem, kernels::WorkItem* items) const;
  kernels::WorkItem* write_whole(std::int32_t head, std::int32_t begin, std::int32_t end,
                                 kernels::WorkItem* items) const;
  void write_cut_tiles(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const;
  void write_merges(const AttentionProblem& problem, kernels::MergeItem* merges) const;

  kernels::LineProblem line_{};
  std::vector<kernels::LineSums> sums_;      // [batch + 1]
  std::vector<kernels::WorkItem> whole_;     // [tiles], of head 0, not cut
  std::vector<std::int32_t> worker_indptr_;  // [num_workers + 1]
  std::vector<std::int64_t> loads_;          // [num_workers], without cuts
  std::vector<kernels::LineCut> cuts_;       // [num_workers + 1], when is_cut_
  kernels::LineCutSums cut_sums_{};
  bool is_cut_ = false;
};

}  // namespace quire::plan
