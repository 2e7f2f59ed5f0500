#include "plan/kv_split.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "attention/line_plan.h"
#include "plan/cache_order.h"
#include "plan/limits.h"

namespace quire::plan {
namespace {

// Longest parts that are tried, in units of a worker's fair share. Around 1 every part count that
// matters is near one of these; below 1 several smaller parts even out unequal tiles.
constexpr std::array kPartsOfFairShare = {
    1.5, 1.25, 1.1, 1.04, 1.0, 0.7, 0.52, 0.35, kSmallestPartOfFairShare};

// A finer cut must be this much better: fewer parts mean less workspace and a steadier result.
constexpr double kWorthwhile = 0.97;

}  // namespace

struct SplitChooser::Scratch {
  KvSplit best, trial;
  Balancer balancer;
  CacheSections sections;
};

namespace {

class Splitter {
 public:
  Splitter(const AttentionProblem& problem, const AttentionTile& tile,
           std::span<const RowTile> tiles, Balancer& balancer, CacheSections& sections)
      : problem_(problem),
        tile_(tile),
        tiles_(tiles),
        balancer_(balancer),
        sections_(sections),
        fixed_split_size_(problem.disable_split_kv ? 0 : problem.fixed_split_size) {}

  // Leaves the choice in `split`; `trial` is scratch.
  void choose(KvSplit& split, KvSplit& trial) const {
    if (fixed_split_size_ > 0) {
      cut(
          [&](const RowTile& t) {
            return std::max<std::int64_t>(1, ceil_div(t.kv_len, fixed_split_size_));
          },
          split);
      schedule(split);
      return;
    }
    cut([](const RowTile&) { return std::int64_t{1}; }, split);
    schedule(split);
    if (!problem_.disable_split_kv) improve(split, trial);
  }

 private:
  // Parts of at most `longest` steps each.
  void cut_at_most(std::int64_t longest, KvSplit& split) const {
    cut([&](const RowTile& t) { return std::max<std::int64_t>(1, ceil_div(steps(t), longest)); },
        split);
  }

  void improve(KvSplit& best_split, KvSplit& trial) const {
    std::int64_t total_steps = 0, longest_steps = 0;
    for (const RowTile& t : tiles_) {
      total_steps += steps(t);
      longest_steps = std::max(longest_steps, steps(t));
    }
    const double fair_steps =
        static_cast<double>(total_steps) * problem_.num_kv_heads / tile_.num_workers;
    // No cut beats an even share and a merge.
    const double floor_tokens = fair_steps * tile_.tile_kv + merge_start_tokens();
    double best_tokens = static_cast<double>(best_split.makespan_tokens);
    if (best_tokens <= floor_tokens) return;
    std::int64_t previous = longest_steps;
    for (const double share : kPartsOfFairShare) {
      const auto longest =
          std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(fair_steps * share)));
      if (longest >= previous) continue;
      previous = longest;
      if (floor_tokens >= kWorthwhile * best_tokens) return;
      cut_at_most(longest, trial);
      const double merge = merge_tokens(trial);
      if (least_makespan(trial) + merge >= kWorthwhile * best_tokens) continue;
      schedule(trial);
      const double tokens = static_cast<double>(trial.makespan_tokens) + merge;
      if (tokens < kWorthwhile * best_tokens) {
        best_tokens = tokens;
        std::swap(best_split, trial);
      }
    }
  }

  static std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

  std::int64_t steps(const RowTile& t) const {
    return visible_steps({0, t.kv_len}, t.visible, tile_.tile_kv);
  }

  double merge_start_tokens() const {
    return kernels::merge_start_cost(tile_.tile_kv, tile_.merges_itself);
  }

  double merge_tokens(const KvSplit& split) const {
    std::int64_t rows = 0;
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      const std::int32_t n = split.num_parts[t];
      if (tiles_[t].is_partial(n)) rows += std::int64_t{n} * tiles_[t].num_rows;
    }
    return static_cast<double>(rows) * problem_.num_kv_heads / tile_.num_workers +
           merge_start_tokens();
  }

  // No schedule of these jobs ends before an even share, or its longest job.
  double least_makespan(const KvSplit& split) const {
    std::uint64_t sum = 0;
    std::uint32_t longest = 0;
    for (const Job& job : split.jobs) {
      sum += std::uint64_t{job.cost} * static_cast<std::uint64_t>(job.copies);
      longest = std::max(longest, job.cost);
    }
    return std::max(static_cast<double>(sum) / tile_.num_workers, static_cast<double>(longest));
  }

  // The parts of all tiles, in their order.
  template <class NumParts>
  void cut(NumParts&& num_parts, KvSplit& split) const {
    split.num_parts.resize(tiles_.size());
    std::int64_t total = 0;
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      const bool empty = tiles_[t].kv_len == 0 && !tile_.merges_itself;
      const std::int64_t n = empty ? 0 : num_parts(tiles_[t]);
      split.num_parts[t] = static_cast<std::int32_t>(n);
      total += n;
    }
    check_work_items(total * problem_.num_kv_heads);
    split.parts.clear();
    split.jobs.clear();
    split.parts.reserve(static_cast<std::size_t>(total));
    split.jobs.reserve(static_cast<std::size_t>(total));
    for (std::size_t t = 0; t < tiles_.size(); ++t) add_parts(split, static_cast<std::int32_t>(t));
  }

  // Gives them to workers.
  void schedule(KvSplit& split) const {
    sections_.order(split, {tiles_, problem_.num_kv_heads, tile_.num_workers, tile_.cached_tokens},
                    balancer_);
    split.makespan_tokens =
        balancer_.assign_to_least_loaded(split.jobs, tile_.num_workers, split.workers);
  }

  void add_parts(KvSplit& split, std::int32_t t) const {
    const RowTile& row_tile = tiles_[static_cast<std::size_t>(t)];
    const std::int32_t n = split.num_parts[static_cast<std::size_t>(t)];
    for (std::int32_t i = 0; i < n; ++i) {
      const TokenRange tokens = part_tokens(row_tile, n, i, fixed_split_size_, tile_.tile_kv);
      const std::int64_t part_steps = visible_steps(tokens, row_tile.visible, tile_.tile_kv);
      split.jobs.push_back(
          {cost_tokens(part_steps, tile_, row_tile.is_partial(n) ? row_tile.num_rows : 0),
           static_cast<std::int32_t>(split.parts.size()), 0, problem_.num_kv_heads});
      split.parts.push_back({t, i});
    }
  }

  const AttentionProblem& problem_;
  const AttentionTile& tile_;
  std::span<const RowTile> tiles_;
  Balancer& balancer_;
  CacheSections& sections_;
  int fixed_split_size_;
};

}  // namespace

TokenRange part_tokens(const RowTile& tile, std::int32_t num_parts, std::int32_t index,
                       int fixed_split_size, int tile_kv) {
  if (fixed_split_size > 0) {
    const std::int64_t begin = std::int64_t{index} * fixed_split_size;
    return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>(std::min<std::int64_t>(
                                                  begin + fixed_split_size, tile.kv_len))};
  }
  const std::int64_t first = tile.visible.begin / tile_kv;
  const std::int64_t last = (std::int64_t{tile.visible.end} + tile_kv - 1) / tile_kv;
  const auto cut = [&](std::int64_t i) {
    if (i == 0) return std::int32_t{0};
    if (i == num_parts) return tile.kv_len;
    return static_cast<std::int32_t>((first + (last - first) * i / num_parts) * tile_kv);
  };
  return {cut(index), cut(index + std::int64_t{1})};
}

SplitChooser::SplitChooser() : scratch_(std::make_unique<Scratch>()) {}
SplitChooser::~SplitChooser() = default;
SplitChooser::SplitChooser(SplitChooser&&) noexcept = default;
SplitChooser& SplitChooser::operator=(SplitChooser&&) noexcept = default;

const KvSplit& SplitChooser::choose(const AttentionProblem& problem, const AttentionTile& tile,
                                    std::span<const RowTile> tiles) {
  Scratch& s = *scratch_;
  Splitter(problem, tile, tiles, s.balancer, s.sections).choose(s.best, s.trial);
  return s.best;
}

}  // namespace quire::plan
