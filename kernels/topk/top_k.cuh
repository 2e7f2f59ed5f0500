// The k largest elements of each row, or of a window of it, sorted, and their indices: as they are,
// with an offset, or through a page table.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes
// Output: values, indices, out
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/candidates.h"
#include "topk/topk_types.h"

namespace quire::kernels {

// Entries order as the outputs do: by key, then by index, or by index alone.
struct EntryOrder {
  bool highest_index;
  i32 last;  // of the window

  u64 entry(u32 key, i32 index) const {
    return join_words(key, ~static_cast<u32>(highest_index ? last - index : index));
  }
  i32 index(u64 entry) const {
    const i32 place = entry_index(entry);
    return highest_index ? last - place : place;
  }
  u64 by_index(u64 entry) const {
    return join_words(~static_cast<u32>(index(entry)), entry_key(entry));
  }
};

// The same from a row that has been read.
template <RowConfig c, bool highest_index>
inline int search_largest(ClusterRow<c>& row, i32 k, EntryOrder order) {
  TokenCut cut = kKeepAll;
  if (k < row.vocab) {
    const Crossing crossing = find_count(row, static_cast<u64>(k), kListCapacity);
    if (crossing.above + crossing.within <= kListCapacity) {
      // Down to the last position: the key there may be any, since 0 is that of no element.
      cut.key = crossing.last < row.largest ? row.largest - crossing.last : 1;
    } else {
      cut = cut_at<c, highest_index>(row, crossing, 1, kKeepAll);
    }
  }
  return gather_list(
      row, row.search().list, [&](auto&& visit) { row.for_each(visit); },
      [&](i32 index, u32 key) -> u64 {
        const i32 place = highest_index ? order.last - index : index;
        return key != 0 && cut.keeps(key, place) ? order.entry(key, index) : 0;
      });
}

// Gathers the k largest elements, and perhaps some more, in the first block's list: its size.
template <RowConfig c>
inline int gather_largest(ClusterRow<c>& row, i32 k, EntryOrder order) {
  if (has_candidates(c, k, row.vocab)) {
    Candidates<c> candidates(row);
    candidates.gather(k);
    const auto found = candidates.summarise(k);
    if (found.complete) {
      candidates.collect(found);
      if (!row.is_leader()) return 0;
      u64* list = row.search().list;
      for (int i = tile::thread_index(); i < found.total; i += c.threads) {
        list[i] = order.entry(entry_key(list[i]), entry_index(list[i]));
      }
      tile::sync_diverged_block();
      return candidates.tighten(found.total, k);
    }
  }
  if (row.largest == 0) row.read();
  return order.highest_index ? search_largest<c, true>(row, k, order)
                             : search_largest<c, false>(row, k, order);
}

inline i32 transformed(const TopkParams& p, i64 row, i32 index) {
  if (p.page_table == nullptr) return p.offsets.at(row, 0) + index;
  const i32 batch = p.batches.at(row, static_cast<i32>(row));
  const i64 column =
      static_cast<i64>(p.table_starts.at(row, p.starts.at(row, 0))) + (index >> p.page_shift);
  if (batch < 0 || batch >= p.table_rows || column < 0 || column >= p.table_columns) return -1;
  const i32 page = p.page_table[batch * p.table_stride + column];
  return (page << p.page_shift) + (index & ((1 << p.page_shift) - 1));
}

// `size` entries of the sorted list, and what stands for no element behind them.
template <RowConfig c>
inline void write_entries(const TopkParams& p, i64 row, const u64* list, int size,
                          EntryOrder order) {
  using T = tile::storage_t<c.dtype>;
  for (int j = tile::thread_index(); j < p.k; j += c.threads) {
    const bool exists = j < size;
    u64 entry = exists ? list[j] : 0;
    u32 key = entry_key(entry);
    i32 index = exists ? order.index(entry) : -1;
    if (exists && p.by_index != 0) {
      index = entry_index(static_cast<u64>(entry_key(entry)));
      key = static_cast<u32>(entry);
    }
    const float value = exists ? tile::float_from_bits(bits_of_key(key)) : tile::kNegInf;
    if (p.values != nullptr) {
      static_cast<T*>(p.values)[row * p.values_stride + j] = tile::from_float<T>(value);
    }
    if (p.indices != nullptr) p.indices[row * p.indices_stride + j] = index;
    if (p.out != nullptr) {
      p.out[row * p.out_stride + j] = exists ? transformed(p, row, index) : -1;
    }
  }
}

template <RowConfig c>
void top_k(const TopkParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  const i32 start = tile::max_of(0, tile::min_of(p.starts.at(row_index, 0), p.in.vocab));
  const i32 room = p.in.vocab - start;
  const i32 length = window_length(p, row_index, room);
  ClusterRow<c> row(p.in.data, row_index * p.in.stride + start, length, kSearchBytes);
  const EntryOrder order{p.highest_index != 0, length - 1};
  int size = gather_largest(row, p.k, order);
  if (!row.is_leader()) return;
  u64* list = row.search().list;
  sort_list<c.threads>(list, size);
  size = tile::min_of(size, p.k);
  if (p.by_index != 0) {
    for (int i = tile::thread_index(); i < size; i += c.threads) list[i] = order.by_index(list[i]);
    tile::sync_diverged_block();
    sort_list<c.threads>(list, size);
  }
  write_entries<c>(p, row_index, list, size, order);
}

}  // namespace quire::kernels
