// Longest-first list scheduling: jobs of known cost onto equal workers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quire::plan {

// `copies` units of equal cost.
struct Job {
  std::uint32_t cost;
  std::int32_t id;
  std::int32_t first = 0;  // of what the units stand for, consecutive
  std::int32_t copies = 1;
};

// Largest cost first; jobs of equal cost keep their order.
void sort_by_cost_descending(std::span<Job> jobs);

// Gives each unit of each job, in order, to the worker with the least load so far (ties: the one
// that has waited longest). `workers` becomes [sum of copies]. Returns the largest load.
// With jobs sorted by cost, loads differ by at most the cost of the longest job.
std::uint64_t assign_to_least_loaded(std::span<const Job> jobs, int num_workers,
                                     std::vector<std::int32_t>& workers);

}  // namespace quire::plan
