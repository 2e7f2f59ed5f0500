// Cutting the KV of row tiles into parts, and choosing how finely.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "plan/attention.h"
#include "plan/balance.h"
#include "plan/row_tiles.h"

namespace quire::plan {

// A part is never planned shorter than this share of a worker's even share of all work.
inline constexpr double kSmallestPartOfFairShare = 0.26;

// One way to cut: how many parts each row tile has, and the schedule that follows from it.
struct KvSplit {
  struct Part {
    std::int32_t tile;
    std::int32_t index;  // among the tile's parts
  };
  std::vector<std::int32_t> num_parts;  // [tiles]; 0: no KV
  std::vector<Part> parts;              // by tile, then index
  // Of parts, in the order they are begun; id: index into parts, units: KV heads.
  std::vector<Job> jobs;
  std::vector<std::int32_t> workers;  // [parts * num_kv_heads], in the order of jobs
  std::uint64_t makespan_tokens = 0;
};

// Part `index` of a tile cut into `num_parts`; together they are [0, kv_len). With fixed_split_size
// 0 the visible steps are shared out evenly and the rest goes with the first and last part.
TokenRange part_tokens(const RowTile& tile, std::int32_t num_parts, std::int32_t index,
                       int fixed_split_size, int tile_kv);

// Chooses cuts; keeps what it has allocated.
class SplitChooser {
 public:
  SplitChooser();
  ~SplitChooser();
  SplitChooser(SplitChooser&&) noexcept;
  SplitChooser& operator=(SplitChooser&&) noexcept;

  // Cuts as the problem demands, or so that everything is finished soonest. Throws Error when a
  // count exceeds 32 bits. The result is valid until the next call.
  const KvSplit& choose(const AttentionProblem& problem, const AttentionTile& tile,
                        std::span<const RowTile> tiles);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace quire::plan
