#include "plan/tile_plan.h"

#include <algorithm>

#include "plan/limits.h"

namespace quire::plan {
namespace {

// Tiles of at most this share of tile_q rows wait for K and V longer than for products.
constexpr int kFewRowsShare = 4;
// Either kind must be at least this share of all steps for an overlap to matter.
constexpr int kSmallestMixedShare = 8;

}  // namespace

AttentionPlanSize TilePlan::prepare(const AttentionProblem& problem, const AttentionTile& tile) {
  num_kv_heads_ = problem.num_kv_heads;
  num_workers_ = tile.num_workers;
  tile_kv_ = tile.tile_kv;
  merges_itself_ = tile.merges_itself;
  fixed_split_size_ = problem.disable_split_kv ? 0 : problem.fixed_split_size;
  is_cascade_ = problem.num_levels() > 1;
  row_tiles(problem, tile, tiles_);
  if (is_cascade_) rows_.find(problem.first_requests, tiles_);
  few_rows_ = tile.tile_q / kFewRowsShare;
  is_mixed_ = mixes_few_and_many_rows();
  split_ = &chooser_.choose(problem, tile, tiles_);
  AttentionPlanSize size;
  size.num_items = static_cast<std::int64_t>(split_->workers.size());
  if (is_cascade_) {
    std::int64_t segments = 0;
    for (std::size_t i = 0; i < rows_.size(); ++i) segments += needs_merge(rows_[i]);
    size.num_merges = segments * num_kv_heads_ * problem.num_levels();
    check_work_items(size.num_merges);
  } else if (!merges_itself_) {
    size.num_merges =
        num_kv_heads_ * std::ranges::count_if(split_->num_parts, [](int n) { return n != 1; });
  }
  size.num_partial_rows = place_partial_rows();
  return size;
}

bool TilePlan::mixes_few_and_many_rows() const {
  std::int64_t few = 0, all = 0;
  for (const RowTile& t : tiles_) {
    const std::int64_t steps = visible_steps({0, t.kv_len}, t.visible, tile_kv_);
    all += steps;
    if (t.num_rows <= few_rows_) few += steps;
  }
  return std::min(few, all - few) * kSmallestMixedShare > all;
}

std::int64_t TilePlan::place_partial_rows() {
  first_row_.resize(tiles_.size());
  std::int64_t next = 0;
  for (std::size_t t = 0; t < tiles_.size(); ++t) {
    first_row_[t] = static_cast<std::int32_t>(next);
    if (!tiles_[t].is_partial(split_->num_parts[t])) continue;
    next += std::int64_t{split_->num_parts[t]} * tiles_[t].num_rows * num_kv_heads_;
    check_partial_rows(next);
  }
  return next;
}

void TilePlan::write(const AttentionPlanArrays& arrays) const {
  write_items(arrays);
  if (is_cascade_) {
    write_cascade_merges(arrays.merges);
  } else if (!merges_itself_) {
    write_merges(arrays.merges);
  }
}

void TilePlan::write_items(const AttentionPlanArrays& arrays) const {
  const std::span indptr(arrays.worker_indptr, static_cast<std::size_t>(num_workers_) + 1);
  std::ranges::fill(indptr, 0);
  for (const std::int32_t w : split_->workers) ++indptr[static_cast<std::size_t>(w) + 1];
  for (std::size_t w = 1; w < indptr.size(); ++w) indptr[w] += indptr[w - 1];
  room_.resize(indptr.size() - 1);
  for (std::size_t w = 0; w < room_.size(); ++w) room_[w] = {indptr[w], indptr[w + 1]};
  const std::int32_t* worker = split_->workers.data();
  for (const Job& job : split_->jobs) {
    const KvSplit::Part part = split_->parts[static_cast<std::size_t>(job.id)];
    const auto t = static_cast<std::size_t>(part.tile);
    const RowTile& row_tile = tiles_[t];
    const std::int32_t num_parts = split_->num_parts[t];
    const bool has_few_rows = row_tile.num_rows <= few_rows_;
    const TokenRange tokens =
        part_tokens(row_tile, num_parts, part.index, fixed_split_size_, tile_kv_);
    for (std::int32_t head = job.first; head < job.first + job.copies; ++head, ++worker) {
      const bool is_partial = row_tile.is_partial(num_parts);
      const std::int32_t first =
          is_partial ? first_row_[t] + head * num_parts * row_tile.num_rows : -1;
      Room& room = room_[static_cast<std::size_t>(*worker)];
      const bool from_behind = is_mixed_ && has_few_rows == (*worker % 2 == 0);
      arrays.items[from_behind ? --room.end : room.begin++] = {
          .request = row_tile.request,
          .kv_head = head,
          .q_begin = row_tile.q_begin,
          .kv_begin = tokens.begin,
          .kv_end = tokens.end,
          .partial_row = is_partial ? first + part.index * row_tile.num_rows : -1,
          .first_partial_row = first,
          .num_parts = num_parts};
    }
  }
}

void TilePlan::write_merges(kernels::MergeItem* merges) const {
  for (std::size_t t = 0; t < tiles_.size(); ++t) {
    const std::int32_t num_parts = split_->num_parts[t];
    if (num_parts == 1) continue;
    for (std::int32_t head = 0; head < num_kv_heads_; ++head) *merges++ = merge_of(t, head);
  }
}

kernels::MergeItem TilePlan::merge_of(std::size_t tile, std::int32_t head) const {
  const RowTile& t = tiles_[tile];
  const std::int32_t num_parts = split_->num_parts[tile];
  return {.request = t.request,
          .kv_head = head,
          .q_begin = t.q_begin,
          .num_rows = t.num_rows,
          .partial_row = num_parts == 0 ? 0 : first_row_[tile] + head * num_parts * t.num_rows,
          .num_parts = num_parts,
          .part_stride = t.num_rows};
}

// Not where one item alone has all tokens of the rows: it writes them itself.
bool TilePlan::needs_merge(std::span<const CascadeRows::Part> parts) const {
  return std::ranges::none_of(parts, [&](const CascadeRows::Part& part) {
    const auto t = static_cast<std::size_t>(part.tile);
    return split_->num_parts[t] == 1 && !tiles_[t].is_joined;
  });
}

void TilePlan::write_cascade_merges(kernels::MergeItem* merges) const {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const std::span<const CascadeRows::Part> parts = rows_[i];
    if (!needs_merge(parts)) continue;
    const CascadeRows::Part& last = parts.back();
    const RowTile& own = tiles_[static_cast<std::size_t>(last.tile)];
    for (std::int32_t head = 0; head < num_kv_heads_; ++head) {
      for (const CascadeRows::Part& part : parts) {
        kernels::MergeItem merge = merge_of(static_cast<std::size_t>(part.tile), head);
        if (merge.num_parts > 0) merge.partial_row += part.first_row;
        merge.request = own.request;
        merge.q_begin = own.q_begin + last.first_row;
        merge.num_rows = rows_.num_rows(i);
        *merges++ = merge;
      }
    }
  }
}

}  // namespace quire::plan
