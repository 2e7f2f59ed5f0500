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

// Sorts and deals out; keeps what it has allocated.
class Balancer {
 public:
  // Largest cost first; jobs of equal cost keep their order.
  void sort_by_cost_descending(std::span<Job> jobs);

  // Gives each unit of each job, in order, to the worker with the least load so far (ties: the one
  // that has waited longest). `workers` becomes [sum of copies]. Returns the largest load.
  // With jobs sorted by cost, loads differ by at most the cost of the longest job.
  std::uint64_t assign_to_least_loaded(std::span<const Job> jobs, int num_workers,
                                       std::vector<std::int32_t>& workers);

 private:
  // Workers in ascending order of load, in a ring. A batch of units of equal cost goes to the first
  // ones, which stay sorted among themselves and are merged in again near the end: for many jobs of
  // similar cost this takes constant time a unit, where a heap takes log(num_workers).
  struct Worker {
    std::uint64_t load;
    std::int32_t id;
  };
  void begin_ring(int num_workers);
  // Places up to `units` units of `cost`; returns how many, and their workers in out[0 ..).
  int place(std::uint32_t cost, std::int64_t units, std::int32_t* out);
  Worker& at(int i) { return ring_[(head_ + static_cast<std::uint32_t>(i)) & mask_]; }

  std::vector<Job> sorted_;
  int num_workers_ = 0;
  std::uint32_t mask_ = 0, head_ = 0;
  std::vector<Worker> ring_, taken_;
};

}  // namespace quire::plan
