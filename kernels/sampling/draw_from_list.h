// Draws a token from a list of a row's largest tokens in the shared memory of one block.
#pragma once

#include "sampling/row_request.h"
#include "sampling/token_list.h"

namespace quire::kernels {

inline void put_token(const SampleParams& p, i64 row, i32 id, u64 mass, u64 total) {
  p.ids[row * p.ids_stride] = id;
  if (p.log_probs == nullptr) return;
  p.log_probs[row * p.log_probs_stride] =
      tile::log_f32(static_cast<float>(mass) / static_cast<float>(total));
}

template <RowConfig c>
inline void draw_from_sorted(const SampleParams& p, ClusterRow<c>& row, const RowFilter& filter,
                             int size, i64 row_index) {
  u64* list = row.search().list;
  sort_list<c.threads>(list, size);
  size = kept_entries(row, filter, tile::min_of(size, filter.top_k));
  // By index: the words of an entry change places.
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    list[i] = join_words(static_cast<u32>(list[i]), entry_key(list[i]));
  }
  tile::sync_diverged_block();
  sort_list<c.threads>(list, size);
  for (int i = tile::thread_index(); i < size; i += c.threads) {
    list[i] = join_words(static_cast<u32>(list[i]), entry_key(list[i]));
  }
  tile::sync_diverged_block();
  u64 mine;
  const PrefixSum sums = list_masses(row, size, mine);
  const u64 target = scale_random(row_random(p, row_index), sums.total);
  const int place = find_mass(row, size, target + 1, sums.before, mine);
  if (tile::thread_index() != 0) return;
  const u64 entry = list[place];
  put_token(p, row_index, entry_index(entry), row.mass(entry_key(entry)), sums.total);
}

// As many are not sorted: each is compared with all others, by several lanes.
constexpr int kMaxCompared = 128;

// each(i, entry): for every lane of those that share entry number i; 0 for none. All lanes of a
// warp take part.
template <int threads, class Each>
inline void for_shared_entries(const u64* list, int size, Each&& each) {
  constexpr int kLanes = 8;
#pragma unroll 1
  for (int first = 0; first < size; first += threads / kLanes) {
    const int i = first + tile::thread_index() / kLanes;
    each(i, i < size ? list[i] : 0, tile::lane_index() % kLanes, kLanes);
  }
}

template <RowConfig c>
inline void draw_by_comparing(const SampleParams& p, ClusterRow<c>& row, const RowFilter& filter,
                              int size, i64 row_index) {
  const u64* list = row.search().list;
  u64* sums = row.search().list + kMaxCompared;  // mass of the larger entries
  u64* kept = sums + kMaxCompared;               // rank, then mass if it is kept
  const int last = tile::min_of(size, filter.top_k) - 1;
  for_shared_entries<c.threads>(list, size, [&](int i, u64 entry, int lane, int num_lanes) {
    u64 larger = 0, rank = 0;
#pragma unroll 1
    for (int j = lane; j < size; j += num_lanes) {
      if (list[j] <= entry) continue;
      larger += row.mass(entry_key(list[j]));
      ++rank;
    }
    for (int m = 1; m < num_lanes; m *= 2) {
      larger += warp_shuffle_xor(larger, m);
      rank += warp_shuffle_xor(rank, m);
    }
    if (i >= size || lane != 0) return;
    sums[i] = larger;
    kept[i] = rank;
    if (rank == static_cast<u64>(last)) row.memory.place = larger + row.mass(entry_key(entry));
  });
  tile::sync_diverged_block();
  const u64 of_top_k = row.memory.place;
  const u64 needed = filter.top_p < 1.f ? nucleus_mass(filter.top_p, filter.counts_all(row.vocab)
                                                                         ? row.memory.all_mass
                                                                         : of_top_k)
                                        : ~u64{0};
  const u32 smallest = tile::max_of(min_p_key(filter, row.largest), 1u);
  if (const int i = tile::thread_index(); i < size) {
    const u32 key = entry_key(list[i]);
    const bool keeps = kept[i] <= static_cast<u64>(last) && sums[i] < needed && key >= smallest;
    kept[i] = keeps ? row.mass(key) : 0;
  }
  tile::sync_diverged_block();
  const u64 random = row_random(p, row_index);
  for_shared_entries<c.threads>(list, size, [&](int i, u64 entry, int lane, int num_lanes) {
    u64 before = 0, total = 0;
#pragma unroll 1
    for (int j = lane; j < size; j += num_lanes) {
      total += kept[j];
      if (entry_index(list[j]) < entry_index(entry)) before += kept[j];
    }
    for (int m = 1; m < num_lanes; m *= 2) {
      before += warp_shuffle_xor(before, m);
      total += warp_shuffle_xor(total, m);
    }
    if (i >= size || lane != 0) return;
    const u64 target = scale_random(random, total);
    if (before <= target && target < before + kept[i]) {
      put_token(p, row_index, entry_index(entry), kept[i], total);
    }
  });
}

// The first block draws from the list of `size` tokens, of which top-k keeps the largest.
template <RowConfig c>
inline void draw_from_list(const SampleParams& p, ClusterRow<c>& row, int size) {
  const i64 row_index = row_of_block<c>();
  const RowRequest<c> request(p, row_index);
  if (size <= tile::min_of(kMaxCompared, c.threads)) {
    draw_by_comparing(p, row, request.filter, size, row_index);
  } else {
    draw_from_sorted(p, row, request.filter, size, row_index);
  }
}

}  // namespace quire::kernels
