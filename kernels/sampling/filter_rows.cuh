// Rows with only what a filter keeps: probabilities renormalised, or (RowKeys::ordered, top-k)
// logits with the others at -inf.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes
// Output: out. NaN for a row that is no distribution, 0 for a row of zeros
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/list_candidates.h"

namespace quire::kernels {

// Divides probabilities by a sum of masses. Both are first put in units of the power of two below
// the largest probability, which rounds nothing.
struct Renormaliser {
  float unit;  // 2^(127 - largest exponent)
  float sum;

  Renormaliser(i32 largest_exponent, u64 mass)
      : unit(mass_unit(largest_exponent)), sum(static_cast<float>(mass) * 0x1p-39f) {}
  float operator()(float probability) const { return probability * unit / sum; }
};

template <RowConfig c, class Value>
inline void write_row(const ClusterRow<c>& row, void* out, i64 first, Value&& value) {
  using T = tile::storage_t<c.dtype>;
  T* to = static_cast<T*>(out) + first;
  for (i32 at = row.begin + tile::thread_index() * c.vec_elems; at < row.end;
       at += c.threads * c.vec_elems) {
    float y[c.vec_elems];
    if constexpr (c.held) {
#pragma unroll
      for (int i = 0; i < c.vec_elems; ++i) y[i] = value(at + i, row.key_at(at + i));
    } else {
      tile::load<c.vec_elems>(y, row.data + at);
#pragma unroll
      for (int i = 0; i < c.vec_elems; ++i) y[i] = value(at + i, row.key_of(at + i, y[i]));
    }
    tile::store<c.vec_elems>(to + at, y);
  }
}

// The row from the list of what is kept in the first block, cut from all blocks' candidates.
template <RowConfig c>
inline void write_listed(ClusterRow<c>& row, const RowFilter& filter, int size, void* out,
                         i64 first) {
  using T = tile::storage_t<c.dtype>;
  constexpr bool kNumbers = c.keys == RowKeys::ordered;
  u64* list = row.search().list;
  u64* found = row.memory.found;
  if (row.is_leader()) {
    size = tile::min_of(size, filter.top_k);
    u64 mass = 0, mine;
    if constexpr (!kNumbers) {
      size = kept_entries(row, filter, size);
      mass = list_masses(row, size, mine).total;
    }
    if (tile::thread_index() == 0) {
      found[0] = list[size - 1];
      found[1] = mass;
    }
  }
  row.sync_own();
  const u64 last = *row.of_block(&found[0], 0), mass = *row.of_block(&found[1], 0);
  const Renormaliser renormalised(row.largest_exponent(), mass);
  using Access = tile::Vec<T, c.vec_elems>;
  Access nothing;
#pragma unroll
  for (int i = 0; i < c.vec_elems; ++i) {
    nothing.data[i] = tile::from_float<T>(kNumbers ? tile::kNegInf : 0.f);
  }
  T* to = static_cast<T*>(out) + first;
  for (i32 at = row.begin + tile::thread_index() * c.vec_elems; at < row.end;
       at += c.threads * c.vec_elems) {
    *reinterpret_cast<Access*>(to + at) = nothing;
  }
  tile::sync_diverged_block();
  const int listed = row.is_leader() ? size : static_cast<int>(row.memory.list_size);
  for (int i = tile::thread_index(); i < listed; i += c.threads) {
    const u64 entry = list[i];
    const i32 index = entry_index(entry);
    if (entry < last || index < row.begin || index >= row.end) continue;
    const u32 key = entry_key(entry);
    const float x = tile::float_from_bits(kNumbers ? bits_of_key(key) : key);
    to[index] = tile::from_float<T>(kNumbers ? x : renormalised(x));
  }
  row.finish();
}

template <RowConfig c>
void filter_rows(const FilterRowsParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  const RowFilter filter(p.filter, row_index);
  ClusterRow<c> row(p.in.data, row_index * p.in.stride, p.in.vocab, kSearchBytes);
  const i64 first = row_index * p.out_stride;
  const Listing listing = listing_of(RowRequest<c>(p, row_index), row.vocab);
  if (listing.count > 0) {
    const int size = list_candidates(p, row, listing);
    if (size >= 0) {
      if (listing.is_top_k && row.is_leader()) sort_list<c.threads>(row.search().list, size);
      return write_listed(row, filter, size, p.out, first);
    }
  }
  if (row.largest == 0) row.read();
  const u32 largest = row.largest;
  if constexpr (c.keys == RowKeys::ordered) {
    const TokenCut cut = filter_cut(row, filter);
    write_row(row, p.out, first, [&](i32 i, u32 key) {
      return cut.keeps(key, i) ? tile::float_from_bits(bits_of_key(key)) : tile::kNegInf;
    });
  } else if (largest >= kNotAProbability || !filter.is_valid()) {
    write_row(row, p.out, first, [](i32, u32) { return tile::float_from_bits(0x7fc00000u); });
  } else if (largest == 0) {
    write_row(row, p.out, first, [](i32, u32) { return 0.f; });
  } else {
    const TokenCut cut = filter_cut(row, filter);
    const Renormaliser renormalised(row.largest_exponent(), kept_mass(row, cut));
    write_row(row, p.out, first, [&](i32 i, u32 key) {
      return cut.keeps(key, i) ? renormalised(tile::float_from_bits(key)) : 0.f;
    });
  }
  row.finish();
}

}  // namespace quire::kernels
