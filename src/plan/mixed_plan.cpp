#include "plan/mixed_plan.h"

#include <algorithm>
#include <cmath>

#include "attention/line_plan.h"
#include "plan/limits.h"
#include "plan/row_tiles.h"

namespace quire::plan {
namespace {

// Of all work, what single tokens, and what the others, have at least: of less the one kernel does
// the few in passing, or waits for the many anyway.
constexpr double kSmallestFewShare = 0.1, kSmallestManyShare = 0.15;
// Of a decode kernel's token, in those of tiles of this many rows; while the tile is not known.
constexpr int kUsualTileRows = 128;
constexpr double kUsualTokenCost = 0.9;

struct Work {
  double few = 0, many = 0;  // tokens of K and V, of one KV head, for each tile anew
};

// Requests of up to most_few rows, and the others in tiles of tile_q, each with `start` tokens
// more.
Work work_of(const AttentionProblem& problem, std::int64_t most_few, int tile_q, int start) {
  Work work;
  for (std::size_t r = 0; r < problem.qo_lens.size(); ++r) {
    const std::int64_t rows = std::int64_t{problem.qo_lens[r]} * problem.group_size;
    const double tokens = mean_visible_tokens(problem, problem.qo_lens[r], problem.kv_lens[r]);
    if (rows > most_few) {
      work.many += (tokens + start) * static_cast<double>((rows + tile_q - 1) / tile_q);
    } else if (rows > 0) {
      work.few += tokens;
    }
  }
  return work;
}

}  // namespace

bool mixing_pays(const AttentionProblem& problem) {
  if (problem.num_levels() > 1) return false;
  const Work work = work_of(problem, problem.group_size, kUsualTileRows, 0);
  const double few = work.few * kUsualTokenCost, all = few + work.many;
  return few > kSmallestFewShare * all && work.many > kSmallestManyShare * all;
}

double few_share(const AttentionProblem& problem, const AttentionTile& tile) {
  if (tile.few.tile_q < problem.group_size || tile.few.two != TwoKernels::at_once) return 0;
  const Work work = work_of(problem, tile.few.tile_q, tile.tile_q, tile.few.many_start);
  const double few = work.few * tile.few.token_cost;
  return few == 0 ? 0 : few / (few + work.many);
}

bool MixedPlan::choose(const AttentionProblem& problem, const AttentionTile& tile) {
  if (tile.few.tile_q < problem.group_size || tile.num_workers < 2) return false;
  const std::int64_t most_few = tile.few.tile_q;
  const Work work = work_of(problem, most_few, tile.tile_q, tile.few.many_start);
  if (work.few == 0 || work.many == 0) return false;
  few_lens_.assign(problem.qo_lens.begin(), problem.qo_lens.end());
  many_lens_ = few_lens_;
  for (std::size_t r = 0; r < few_lens_.size(); ++r) {
    const bool is_few = std::int64_t{few_lens_[r]} * problem.group_size <= most_few;
    (is_few ? many_lens_ : few_lens_)[r] = 0;
  }
  num_many_workers_ = num_few_workers_ = tile.num_workers;
  const bool at_once = tile.few.two == TwoKernels::at_once;
  if (at_once) {
    const double share = std::min(few_share(problem, tile), tile.few.most_workers);
    const auto workers = static_cast<int>(std::lround(share * tile.num_workers));
    num_few_workers_ = std::clamp(workers, 1, tile.num_workers - 1);
  }
  num_few_workers_ = kernels::line_workers(num_few_workers_, problem.num_kv_heads);
  if (at_once) num_many_workers_ -= num_few_workers_;
  return true;
}

AttentionPlanSize MixedPlan::prepare(const AttentionProblem& problem, const AttentionTile& tile) {
  AttentionProblem part = problem;
  AttentionTile many_tile = tile;
  part.qo_lens = many_lens_;
  many_tile.num_workers = num_many_workers_;
  many_size_ = many_.prepare(part, many_tile);
  part.qo_lens = few_lens_;
  few_size_ = few_.prepare(part, {.num_workers = num_few_workers_,
                                  .tile_q = tile.few.tile_q,
                                  .tile_kv = tile.few.tile_kv,
                                  .merges_itself = true});
  AttentionPlanSize size = many_size_;
  size.num_items += few_size_.num_items;
  size.num_partial_rows += few_size_.num_partial_rows;
  size.num_few_workers = num_few_workers_;
  check_work_items(size.num_items);
  check_partial_rows(size.num_partial_rows);
  return size;
}

void MixedPlan::write(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const {
  many_.write(arrays);
  AttentionProblem part = problem;
  part.qo_lens = few_lens_;
  kernels::WorkItem* items = arrays.items + many_size_.num_items;
  std::int32_t* indptr = arrays.worker_indptr + num_many_workers_;
  few_.write(part, {.items = items, .worker_indptr = indptr, .merges = nullptr});
  for (int w = 0; w <= num_few_workers_; ++w) {
    indptr[w] += static_cast<std::int32_t>(many_size_.num_items);
  }
  const auto first_row = static_cast<std::int32_t>(many_size_.num_partial_rows);
  for (std::int64_t i = 0; i < few_size_.num_items; ++i) {
    if (items[i].partial_row < 0) continue;
    items[i].partial_row += first_row;
    items[i].first_partial_row += first_row;
  }
}

}  // namespace quire::plan
