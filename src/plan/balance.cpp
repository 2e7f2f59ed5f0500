#include "plan/balance.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace quire::plan {
namespace {

constexpr int kRadixBits = 8;
constexpr std::uint32_t kRadixMask = (1u << kRadixBits) - 1;

// Workers in ascending order of load, in a ring. A batch of units of equal cost goes to the first
// ones, which stay sorted among themselves and are merged in again near the end: for many jobs of
// similar cost this takes constant time a unit, where a heap takes log(num_workers).
class WorkerRing {
 public:
  explicit WorkerRing(int num_workers)
      : num_workers_(num_workers),
        mask_(std::bit_ceil(static_cast<std::uint32_t>(num_workers)) - 1),
        ring_(mask_ + 1),
        taken_(static_cast<std::size_t>(num_workers)) {
    for (int w = 0; w < num_workers; ++w) ring_[static_cast<std::size_t>(w)] = {0, w};
  }

  // Places up to `units` units of `cost`; returns how many, and their workers in out[0 ..).
  int place(std::uint32_t cost, int units, std::int32_t* out) {
    const std::uint64_t first_again = at(0).load + cost;
    const int limit = std::min(units, num_workers_);
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

  std::uint64_t largest_load() { return at(num_workers_ - 1).load; }

 private:
  struct Worker {
    std::uint64_t load;
    std::int32_t id;
  };
  Worker& at(int i) { return ring_[(head_ + static_cast<std::uint32_t>(i)) & mask_]; }

  int num_workers_;
  std::uint32_t mask_;
  std::uint32_t head_ = 0;
  std::vector<Worker> ring_;
  std::vector<Worker> taken_;
};

}  // namespace

void sort_by_cost_descending(std::span<Job> jobs) {
  std::uint32_t largest = 0;
  for (const Job& job : jobs) largest = std::max(largest, job.cost);
  std::vector<Job> sorted(jobs.size());
  for (int shift = 0; shift < 32 && (largest >> shift) != 0; shift += kRadixBits) {
    std::array<std::uint32_t, kRadixMask + 1> begin{};
    const auto bucket = [shift](const Job& job) {
      return kRadixMask - ((job.cost >> shift) & kRadixMask);  // complement: descending
    };
    for (const Job& job : jobs) ++begin[bucket(job)];
    std::uint32_t sum = 0;
    for (std::uint32_t& b : begin) sum += std::exchange(b, sum);
    for (const Job& job : jobs) sorted[begin[bucket(job)]++] = job;
    std::copy(sorted.begin(), sorted.end(), jobs.begin());
  }
}

std::uint64_t assign_to_least_loaded(std::span<const Job> jobs, int num_workers,
                                     std::vector<std::int32_t>& workers) {
  std::size_t units = 0;
  for (const Job& job : jobs) units += static_cast<std::size_t>(job.copies);
  workers.resize(units);
  WorkerRing ring(num_workers);
  std::int32_t* out = workers.data();
  for (const Job& job : jobs) {
    for (int left = job.copies; left > 0;) {
      const int placed = ring.place(job.cost, left, out);
      out += placed;
      left -= placed;
    }
  }
  return ring.largest_load();
}

}  // namespace quire::plan
