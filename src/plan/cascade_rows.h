// The rows of a cascade in segments that one row tile of each level has: what a merge joins.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/row_tiles.h"

namespace quire::plan {

// Keeps what it has allocated.
class CascadeRows {
 public:
  // A segment in the tile of one level.
  struct Part {
    std::int32_t tile;
    std::int32_t first_row;  // of the tile
  };

  // first_requests: [levels], as AttentionProblem; every level's tiles have as many rows. Also says
  // which tiles are joined.
  void find(std::span<const std::int32_t> first_requests, std::span<RowTile> tiles);

  // Segments, in the order of rows.
  std::size_t size() const { return num_rows_.size(); }
  std::span<const Part> operator[](std::size_t i) const {  // [levels]
    return std::span(parts_).subspan(i * num_levels_, num_levels_);
  }
  std::int32_t num_rows(std::size_t i) const { return num_rows_[i]; }

 private:
  std::size_t num_levels_ = 0;
  std::vector<Part> next_;              // [levels], the next row of each, while finding
  std::vector<Part> parts_;             // [segments, levels]
  std::vector<std::int32_t> num_rows_;  // [segments]
};

}  // namespace quire::plan
