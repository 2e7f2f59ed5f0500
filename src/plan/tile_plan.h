// Planning where requests have several tiles of packed rows, or levels: parts of tiles, longest
// first, in sections whose K and V stay in the cache, each to the least loaded worker. Where tiles
// of many rows, which wait for products, and tiles of few, which wait for memory, both take their
// time, every second worker begins with the others, so that the two overlap.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/cascade_rows.h"
#include "plan/kv_split.h"
#include "plan/row_tiles.h"

namespace quire::plan {

class TilePlan {
 public:
  // Allocates nothing that an earlier call of this size has allocated. Throws Error when a count
  // exceeds 32 bits.
  AttentionPlanSize prepare(const AttentionProblem& problem, const AttentionTile& tile);
  // Writes what prepare() has chosen.
  void write(const AttentionPlanArrays& arrays) const;

 private:
  bool mixes_few_and_many_rows() const;
  std::int64_t place_partial_rows();
  void write_items(const AttentionPlanArrays& arrays) const;
  void write_merges(kernels::MergeItem* merges) const;
  kernels::MergeItem merge_of(std::size_t tile, std::int32_t head) const;
  bool needs_merge(std::span<const CascadeRows::Part> parts) const;
  void write_cascade_merges(kernels::MergeItem* merges) const;

  int num_kv_heads_ = 1, num_workers_ = 1, tile_kv_ = 1, fixed_split_size_ = 0;
  bool merges_itself_ = false;
  std::vector<RowTile> tiles_;
  SplitChooser chooser_;
  const KvSplit* split_ = nullptr;  // in chooser_
  bool is_cascade_ = false;
  bool is_mixed_ = false;
  int few_rows_ = 0;
  CascadeRows rows_;
  // Partial rows of tile t, head h begin at first_row_[t] + h * num_parts[t] * num_rows.
  std::vector<std::int32_t> first_row_;
  // Scratch of write_items: the room that is left for a worker's items.
  struct Room {
    std::int32_t begin, end;
  };
  mutable std::vector<Room> room_;
};

}  // namespace quire::plan
