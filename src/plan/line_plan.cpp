#include "plan/line_plan.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "plan/limits.h"

namespace quire::plan {
namespace {

using kernels::LineCuts;
using kernels::LineSums;
using kernels::LineTile;

LineCuts cuts_of(const AttentionProblem& problem) {
  if (problem.disable_split_kv) return LineCuts::nowhere;
  return problem.fixed_split_size > 0 ? LineCuts::fixed : LineCuts::anywhere;
}

LineTile tile_of(const kernels::LineProblem& line, const AttentionProblem& problem,
                 std::int32_t request) {
  const auto r = static_cast<std::size_t>(request);
  return line_tile(line, problem.qo_lens[r], problem.kv_lens[r]);
}

}  // namespace

kernels::LineProblem line_problem(const AttentionProblem& problem, const AttentionTile& tile) {
  const auto or_else = [](int given, int other) { return given > 0 ? given : other; };
  const int start_costs = kernels::item_start_cost(tile.tile_kv, tile.merges_itself) +
                          kernels::merge_start_cost(tile.tile_kv, tile.merges_itself);
  return {
      .batch_size = static_cast<std::int32_t>(problem.qo_lens.size()),
      .group_size = problem.group_size,
      .num_kv_heads = problem.num_kv_heads,
      .num_workers = tile.num_workers,
      .memory_workers = std::min(or_else(tile.memory_workers, tile.num_workers), tile.num_workers),
      .cut_cost = or_else(tile.cut_cost, start_costs),
      .tile_kv = tile.tile_kv,
      .window_left = problem.window_left,
      .fixed_split_size = problem.fixed_split_size,
      .cuts = cuts_of(problem),
      .merges_itself = tile.merges_itself};
}

bool LinePlan::serves(const AttentionProblem& problem, const AttentionTile& tile) {
  if (problem.num_levels() > 1) return false;
  const std::int32_t longest = tile.tile_q / problem.group_size;
  return std::ranges::all_of(problem.qo_lens, [=](std::int32_t len) { return len <= longest; });
}

AttentionPlanSize LinePlan::prepare(const AttentionProblem& problem, const AttentionTile& tile) {
  line_ = line_problem(problem, tile);
  add_requests(problem);
  const LineSums& head = sums_.back();
  const std::int64_t heads = problem.num_kv_heads;
  const std::int64_t uncut_cost = place_starts(problem);
  is_cut_ =
      line_.cuts == LineCuts::anywhere && head.tiles > 0 && line_cut_pays(line_, head, uncut_cost);
  AttentionPlanSize size{.num_items = head.parts * heads,
                         .num_merges = head.merges * heads,
                         .num_partial_rows = head.partial_rows * heads};
  if (is_cut_) {
    place_cuts(problem);
    size.num_items += cut_sums_.cuts;
    if (!line_.merges_itself) size.num_merges += cut_sums_.tiles;
    size.num_partial_rows = cut_sums_.partial_rows;
  }
  check_work_items(size.num_items);
  check_work_items(size.num_merges);
  check_partial_rows(size.num_partial_rows);
  return size;
}

void LinePlan::add_requests(const AttentionProblem& problem) {
  sums_.resize(problem.qo_lens.size() + 1);
  whole_.clear();
  LineSums sums{};
  const std::int64_t heads = problem.num_kv_heads;
  for (std::int32_t r = 0; r < line_.batch_size; ++r) {
    sums_[static_cast<std::size_t>(r)] = sums;
    const LineTile t = tile_of(line_, problem, r);
    check_work_items((std::int64_t{sums.parts} + t.parts) * heads);
    check_partial_rows((sums.partial_rows + std::int64_t{t.parts} * t.rows) * (t.parts > 1));
    sums = sums + line_share(line_, t);
    if (t.parts > 0) whole_.push_back(kernels::line_whole_item(r, 0, t.kv_len));
  }
  sums_.back() = sums;
}

// Boundaries that do not cut; returns what that costs.
std::int64_t LinePlan::place_starts(const AttentionProblem& problem) {
  worker_indptr_.assign(static_cast<std::size_t>(line_.num_workers) + 1, 0);
  loads_.clear();
  const LineSums& head = sums_.back();
  if (head.tiles == 0) return 0;
  const std::int64_t total = head.cost * line_.num_kv_heads;
  const std::int32_t active = kernels::line_workers(line_.num_workers, line_.num_kv_heads);
  std::int64_t previous = 0;
  for (std::int32_t w = 1; w <= line_.num_workers; ++w) {
    const kernels::LinePlace place =
        line_place(line_, sums_.data(), kernels::line_boundary(total, active, w));
    const kernels::LineStart start =
        line_start(line_, sums_.data(), tile_of(line_, problem, place.request), place);
    worker_indptr_[static_cast<std::size_t>(w)] = start.item;
    loads_.push_back(start.position - previous);
    previous = start.position;
  }
  const std::int32_t num_busiest = line_memory_workers(line_, head);
  const auto busiest = loads_.begin() + num_busiest;
  std::nth_element(loads_.begin(), busiest - 1, loads_.end(), std::greater<>{});
  const std::int64_t longest = *std::max_element(loads_.begin(), busiest);
  const std::int64_t missing =
      num_busiest * longest - std::accumulate(loads_.begin(), busiest, std::int64_t{0});
  return line_uncut_cost(line_, head, missing);
}

void LinePlan::place_cuts(const AttentionProblem& problem) {
  cuts_.resize(static_cast<std::size_t>(line_.num_workers) + 1);
  const std::int64_t total = sums_.back().cost * line_.num_kv_heads;
  const std::int32_t active = line_cut_workers(line_, sums_.back());
  cut_sums_ = {};
  for (std::int32_t w = 0; w <= line_.num_workers; ++w) {
    kernels::LineCut& cut = cuts_[static_cast<std::size_t>(w)];
    const kernels::LinePlace place =
        line_place(line_, sums_.data(), kernels::line_boundary(total, active, w));
    cut = line_cut(line_, sums_.data(), tile_of(line_, problem, place.request), place);
    const bool first = line_cuts_first(cuts_.data(), w);
    cut_sums_ = cut_sums_ + line_cut_share(cut, first, rows_of(problem, cut.request));
    worker_indptr_[static_cast<std::size_t>(w)] = cut.tile + cut_sums_.cuts;
  }
}

std::int32_t LinePlan::rows_of(const AttentionProblem& problem, std::int32_t request) const {
  return problem.qo_lens[static_cast<std::size_t>(request)] * line_.group_size;
}

void LinePlan::write(const AttentionProblem& problem, const AttentionPlanArrays& arrays) const {
  std::ranges::copy(worker_indptr_, arrays.worker_indptr);
  write_merges(problem, arrays.merges);
  if (is_cut_) {
    write_cut_tiles(problem, arrays);
  } else if (line_.cuts == LineCuts::fixed) {
    write_parts(problem, arrays.items);
  } else {
    for (std::int32_t head = 0; head < line_.num_kv_heads; ++head) {
      write_whole(head, 0, sums_.back().tiles, arrays.items + head * sums_.back().tiles);
    }
  }
}

// Parts of fixed length; the heads have the same, with partial rows of their own.
void LinePlan::write_parts(const AttentionProblem& problem, kernels::WorkItem* items) const {
  for (std::int32_t head = 0; head < line_.num_kv_heads; ++head) {
    for (const kernels::WorkItem& whole : whole_) {
      const auto r = static_cast<std::size_t>(whole.request);
      const LineTile t = tile_of(line_, problem, whole.request);
      const std::int32_t row = head * sums_.back().partial_rows + sums_[r].partial_rows;
      for (std::int32_t part = 0; part < t.parts; ++part) {
        *items++ = line_item(line_, t, whole.request, head, part, row);
      }
    }
  }
}

// Tiles [begin, end) of a head.
kernels::WorkItem* LinePlan::write_whole(std::int32_t head, std::int32_t begin, std::int32_t end,
                                         kernels::WorkItem* items) const {
  for (std::int32_t tile = begin; tile < end; ++tile, ++items) {
    *items = whole_[static_cast<std::size_t>(tile)];
    items->kv_head = head;
  }
  return items;
}

// Tiles that do not have one part before any cut.
void LinePlan::write_merges(const AttentionProblem& problem, kernels::MergeItem* merges) const {
  if (sums_.back().merges == 0) return;
  for (std::int32_t head = 0; head < line_.num_kv_heads; ++head) {
    for (std::int32_t r = 0; r < line_.batch_size; ++r) {
      const LineTile t = tile_of(line_, problem, r);
      if (t.rows == 0 || t.parts == 1) continue;
      const std::int32_t row =
          head * sums_.back().partial_rows + sums_[static_cast<std::size_t>(r)].partial_rows;
      *merges++ = line_merge(t, r, head, row);
    }
  }
}

void LinePlan::write_cut_tiles(const AttentionProblem& problem,
                               const AttentionPlanArrays& arrays) const {
  const std::int32_t tiles = sums_.back().tiles;
  kernels::WorkItem* item = arrays.items;
  kernels::MergeItem* merge = arrays.merges + sums_.back().merges * line_.num_kv_heads;
  std::int32_t written = 0, next_row = 0;  // tiles, over all heads
  const auto write_up_to = [&](std::int32_t tile) {
    while (written < tile) {
      const std::int32_t head = written / tiles, begin = written % tiles;
      const std::int32_t end = std::min(tiles, begin + tile - written);
      item = write_whole(head, begin, end, item);
      written += end - begin;
    }
  };
  for (auto cut = cuts_.begin(); cut != cuts_.end();) {
    write_up_to(cut->tile);
    if (cut->step == 0) {
      ++cut;
      continue;
    }
    const auto after = std::find_if(cut, cuts_.end(), [&](const kernels::LineCut& c) {
      return c.tile != cut->tile || c.step == 0;
    });
    kernels::WorkItem part = whole_[static_cast<std::size_t>(cut->tile % tiles)];
    const std::int32_t kv_len = part.kv_end, rows = rows_of(problem, part.request);
    const std::int32_t first_step = tile_of(line_, problem, part.request).first_step;
    part.kv_head = cut->tile / tiles;
    part.first_partial_row = part.partial_row = next_row;
    part.num_parts = static_cast<std::int32_t>(after - cut) + 1;
    if (!line_.merges_itself) {
      *merge++ = {part.request, part.kv_head, 0, rows, next_row, part.num_parts, rows};
    }
    for (; cut != after; ++cut) {
      part.kv_end = (first_step + cut->step) * line_.tile_kv;
      *item++ = part;
      part.kv_begin = part.kv_end;
      part.partial_row += rows;
    }
    part.kv_end = kv_len;
    *item++ = part;
    next_row = part.partial_row + rows;
    ++written;
  }
}

}  // namespace quire::plan
