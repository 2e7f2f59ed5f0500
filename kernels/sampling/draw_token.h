// Draws a token from those of a row that a cut keeps.
#pragma once

#include "sampling/row_search.h"

namespace quire::kernels {

// The token of this block's elements [begin, end) at which the running mass exceeds `target`.
template <RowConfig c, class Put>
inline void walk_to_token(const ClusterRow<c>& row, TokenCut cut, i32 begin, i32 end, u64 target,
                          Put&& put) {
  u64 running = 0;
  for (i32 i = begin; i < end; ++i) {
    const u32 key = row.key_at(i);
    const u64 mass = cut.keeps(key, i) ? row.mass(key) : 0;
    running += mass;
    if (running > target) return put(i, mass);
  }
}

// One thread calls put(token, its mass, mass of all that are kept). First to a block of the
// cluster, then to a warp's segment of its part, then to a thread's piece.
template <RowConfig c, class Put>
inline void draw_token(ClusterRow<c>& row, TokenCut cut, u64 random, Put&& put) {
  constexpr int kWarps = c.threads / 32;
  const auto mass_of = [&](i32 i, u32 key) { return cut.keeps(key, i) ? row.mass(key) : 0; };
  const i32 segment = tile::ceil_div(row.end - row.begin, kWarps * 8) * 8;
  const auto segment_begin = [&](int warp) {
    return tile::min_of(row.begin + warp * segment, row.end);
  };
  u64 mine = 0;
  row.for_range(segment_begin(tile::warp_index()), segment_begin(tile::warp_index() + 1),
                tile::lane_index(), 32, [&](i32 i, u32 key) { mine += mass_of(i, key); });
  mine = warp_sum(mine);
  u64* segments = row.search().list;
  tile::sync_diverged_block();
  if (tile::lane_index() == 0) segments[tile::warp_index()] = mine;
  tile::sync_diverged_block();
  u64 of_block = 0;
  for (int w = 0; w < kWarps; ++w) of_block += segments[w];
  const ClusterSum sum = row.cluster_sum(of_block);
  u64 target = scale_random(random, sum.total);
  if (target < sum.before || target >= sum.before + of_block) return;

  target -= sum.before;
  int warp = 0;
  while (target >= segments[warp]) target -= segments[warp++];
  const i32 first = segment_begin(warp), last = segment_begin(warp + 1);
  const i32 piece = tile::ceil_div(last - first, c.threads);
  const i32 begin = tile::min_of(first + tile::thread_index() * piece, last);
  const i32 end = tile::min_of(begin + piece, last);
  mine = 0;
  for (i32 i = begin; i < end; ++i) mine += mass_of(i, row.key_at(i));
  const PrefixSum sums = block_prefix_sum<c.threads>(mine, row.memory.warp_sums);
  if (sums.before <= target && target < sums.before + mine) {
    walk_to_token(row, cut, begin, end, target - sums.before,
                  [&](i32 id, u64 mass) { put(id, mass, sum.total); });
  }
}

}  // namespace quire::kernels
