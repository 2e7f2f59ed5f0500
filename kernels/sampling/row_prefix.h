// The shortest prefix of a row's order, from the largest token down, that weighs enough.
#pragma once

#include "sampling/row_search.h"
#include "sampling/token_list.h"

namespace quire::kernels {

// The cut at which the sorted list of one block reaches `needed`: entries weigh weight(key).
template <RowConfig c, class Weight>
inline void tell_cut(ClusterRow<c>& row, int size, u64 needed, Weight&& weight) {
  u64* list = row.search().list;
  sort_list<c.threads>(list, size);
  u64 mine;
  const PrefixSum sums = list_sums(row, size, weight, mine);
  const u64 entry = list[find_entry(row, size, needed, sums.before, mine, weight)];
  if (tile::thread_index() == 0) row.memory.found[0] = entry;
}

// The shortest prefix within `within` whose weight reaches needed_of(weight of `within`); `within`
// when nothing is needed or it weighs less. weight(key) is u32 1 or a mass. The histograms end as
// soon as the tokens of a bin fit into a list.
template <RowConfig c, bool reverse = false, class Weight, class NeededOf>
inline TokenCut find_prefix(ClusterRow<c>& row, TokenCut within, Weight&& weight,
                            NeededOf&& needed_of) {
  const auto place = [&](i32 i) { return reverse ? row.vocab - 1 - i : i; };
  Crossing found{};
  int shift = kKeyShift;
  for (;;) {
    narrow(
        row, found, shift,
        [&](auto&& add) {
          row.for_each([&](i32 i, u32 key) {
            if (key == 0 || !within.keeps(key, place(i))) return;
            const auto x = weight(key);
            if (x != 0) add(row.largest - key, x);
          });
        },
        needed_of);
    if (!found.exists) return within;
    const int size = gather_list(
        row, row.search().list, [&](auto&& visit) { row.for_each(visit); },
        [&](i32 i, u32 key) {
          const u32 position = row.largest - key;
          const bool is_in = key != 0 && found.first <= position && position <= found.last &&
                             within.keeps(key, place(i));
          return is_in ? list_entry(key, place(i)) : 0;
        });
    if (size <= kListCapacity) {
      if (row.is_leader()) tell_cut(row, size, found.needed, weight);
      row.sync_own();
      const u64 last = *ClusterRow<c>::of_block(&row.memory.found[0], 0);
      return {entry_key(last), entry_index(last)};
    }
    if (found.first == found.last) {
      const u64 each = weight(row.largest - found.first);
      return cut_at<c, reverse>(row, found, each, within);
    }
  }
}

}  // namespace quire::kernels
