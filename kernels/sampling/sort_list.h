// Sorts a list in shared memory: bitonic, where elements that are near each other are exchanged in
// the registers of a warp, without barriers.
#pragma once

#include "sampling/block_reduce.h"

namespace quire::kernels {

// Consecutive elements that a warp sorts by itself: two a lane.
constexpr int kWarpList = 2 * tile::kWarpSize;

// The steps of one run that stay among the warp's elements: this lane's are number `first` of the
// list and the next one.
inline void merge_in_warp(u64 (&x)[2], int first, int run) {
  const bool descending = (first & run) == 0;
#pragma unroll 1
  for (int step = tile::min_of(run, kWarpList) / 2; step > 1; step /= 2) {
    const bool keeps_larger = ((first & step) == 0) == descending;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const u64 other = warp_shuffle_xor(x[i], step / 2);
      x[i] = (x[i] > other) == keeps_larger ? x[i] : other;
    }
  }
  if ((x[0] < x[1]) == descending) {
    const u64 smaller = x[0];
    x[0] = x[1];
    x[1] = smaller;
  }
}

// Runs of lengths first_run to last_run, in doubling steps, of each warp's elements.
template <int threads>
inline void merge_in_warps(u64* list, int padded, int first_run, int last_run) {
#pragma unroll 1
  for (int at = tile::warp_index() * kWarpList; at < padded; at += threads * 2) {
    const int first = at + 2 * tile::lane_index();
    u64 x[2] = {list[first], list[first + 1]};
#pragma unroll 1
    for (int run = first_run; run <= last_run; run *= 2) merge_in_warp(x, first, run);
    list[first] = x[0];
    list[first + 1] = x[1];
  }
  tile::sync_diverged_block();
}

// Descending; `size` elements, filled up with zeros to a power of two that is at least kWarpList.
// By all threads of the block; nobody else writes `list` from before to behind the call.
template <int threads>
inline void sort_list(u64* list, int size) {
  int padded = kWarpList;
  while (padded < size) padded *= 2;
  for (int i = size + tile::thread_index(); i < padded; i += threads) list[i] = 0;
  tile::sync_diverged_block();
  merge_in_warps<threads>(list, padded, 2, kWarpList);
#pragma unroll 1
  for (int run = 2 * kWarpList; run <= padded; run *= 2) {
    for (int step = run / 2; step >= kWarpList; step /= 2) {
#pragma unroll 1
      for (int i = tile::thread_index(); i < padded / 2; i += threads) {
        const int low = 2 * i - (i & (step - 1));
        const bool descending = (low & run) == 0;
        const u64 a = list[low], b = list[low + step];
        if ((a < b) == descending) {
          list[low] = b;
          list[low + step] = a;
        }
      }
      tile::sync_diverged_block();
    }
    merge_in_warps<threads>(list, padded, run, run);
  }
}

}  // namespace quire::kernels
