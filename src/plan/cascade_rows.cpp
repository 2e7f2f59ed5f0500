#include "plan/cascade_rows.h"

#include <algorithm>
#include <limits>

namespace quire::plan {
namespace {

// Tiles of one segment that have tokens are joined where there are several.
void mark_joined(std::span<const CascadeRows::Part> parts, std::span<RowTile> tiles) {
  const auto tile = [&](const CascadeRows::Part& part) -> RowTile& {
    return tiles[static_cast<std::size_t>(part.tile)];
  };
  const auto with_kv =
      std::ranges::count_if(parts, [&](const auto& part) { return tile(part).kv_len > 0; });
  if (with_kv < 2) return;
  for (const CascadeRows::Part& part : parts) tile(part).is_joined |= tile(part).kv_len > 0;
}

}  // namespace

void CascadeRows::find(std::span<const std::int32_t> first_requests, std::span<RowTile> tiles) {
  num_levels_ = first_requests.size();
  parts_.clear();
  num_rows_.clear();
  next_.clear();
  for (const std::int32_t first : first_requests) {
    const auto tile = std::ranges::lower_bound(tiles, first, {}, &RowTile::request);
    next_.push_back({static_cast<std::int32_t>(tile - tiles.begin()), 0});
  }
  while (static_cast<std::size_t>(next_.back().tile) < tiles.size()) {
    std::int32_t rows = std::numeric_limits<std::int32_t>::max();
    for (const Part& part : next_) {
      rows = std::min(rows, tiles[static_cast<std::size_t>(part.tile)].num_rows - part.first_row);
    }
    num_rows_.push_back(rows);
    parts_.insert(parts_.end(), next_.begin(), next_.end());
    mark_joined(next_, tiles);
    for (Part& part : next_) {
      part.first_row += rows;
      if (part.first_row < tiles[static_cast<std::size_t>(part.tile)].num_rows) continue;
      part = {part.tile + 1, 0};
    }
  }
}

}  // namespace quire::plan
