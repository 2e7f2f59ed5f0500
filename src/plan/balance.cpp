#include "plan/balance.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace quire::plan {
namespace {

constexpr int kRadixBits = 8;
constexpr std::uint32_t kRadixMask = (1u << kRadixBits) - 1;

}  // namespace

void Balancer::begin_ring(int num_workers) {
  num_workers_ = num_workers;
  mask_ = std::bit_ceil(static_cast<std::uint32_t>(num_workers)) - 1;
  head_ = 0;
  ring_.resize(std::size_t{mask_} + 1);
  taken_.resize(static_cast<std::size_t>(num_workers));
  for (int w = 0; w < num_workers; ++w) ring_[static_cast<std::size_t>(w)] = {0, w};
}

int Balancer::place(std::uint32_t cost, std::int64_t units, std::int32_t* out) {
  const std::uint64_t first_again = at(0).load + cost;
  const auto limit = static_cast<int>(std::min<std::int64_t>(units, num_workers_));
  int count = 0;
  while (count < limit && at(count).load <= first_again) {
    const Worker worker = at(count);
    taken_[static_cast<std::size_t>(count)] = {worker.load + cost, worker.id};
    out[count++] = worker.id;
  }
  int waiting = num_workers_ - 1, placed = count - 1;
  for (int to = num_workers_ - 1 + count; placed >= 0; --to) {
    const Worker& last = taken_[static_cast<std::size_t>(placed)];
    if (waiting >= count && at(waiting).load > last.load) {
      at(to) = at(waiting--);
    } else {
      at(to) = last;
      --placed;
    }
  }
  head_ += static_cast<std::uint32_t>(count);
  return count;
}

void Balancer::sort_by_cost_descending(std::span<Job> jobs) {
  std::uint32_t largest = 0;
  for (const Job& job : jobs) largest = std::max(largest, job.cost);
  sorted_.resize(jobs.size());
  for (int shift = 0; shift < 32 && (largest >> shift) != 0; shift += kRadixBits) {
    std::array<std::uint32_t, kRadixMask + 1> begin{};
    const auto bucket = [shift](const Job& job) {
      return kRadixMask - ((job.cost >> shift) & kRadixMask);  // complement: descending
    };
    for (const Job& job : jobs) ++begin[bucket(job)];
    std::uint32_t sum = 0;
    for (std::uint32_t& b : begin) sum += std::exchange(b, sum);
    for (const Job& job : jobs) sorted_[begin[bucket(job)]++] = job;
    std::ranges::copy(sorted_, jobs.begin());
  }
}

std::uint64_t Balancer::assign_to_least_loaded(std::span<const Job> jobs, int num_workers,
                                               std::vector<std::int32_t>& workers) {
  std::size_t units = 0;
  for (const Job& job : jobs) units += static_cast<std::size_t>(job.copies);
  workers.resize(units);
  begin_ring(num_workers);
  std::int32_t* out = workers.data();
  for (auto job = jobs.begin(); job != jobs.end();) {
    const std::uint32_t cost = job->cost;  // of a run of jobs, often: tiles are cut evenly
    std::int64_t left = 0;
    for (; job != jobs.end() && job->cost == cost; ++job) left += job->copies;
    while (left > 0) {
      const int placed = place(cost, left, out);
      out += placed;
      left -= placed;
    }
  }
  return at(num_workers_ - 1).load;
}

}  // namespace quire::plan
