// Rows with only what a filter keeps: probabilities renormalised, or (RowKeys::ordered, top-k)
// logits with the others at -inf.
//
// Grid:   c.cluster blocks a row
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes
// Output: out. NaN for a row that is no distribution, 0 for a row of zeros
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/row_filter.h"

namespace quire::kernels {

// Divides probabilities by a sum of masses. Both are first put in units of the power of two below
// the largest probability, which rounds nothing.
struct Renormaliser {
  float unit;  // 2^(127 - largest exponent)
  float sum;

  Renormaliser(i32 largest_exponent, u64 mass)
      : unit(tile::float_from_bits(
            largest_exponent < 254 ? static_cast<u32>(254 - largest_exponent) << 23 : 0x00400000u)),
        sum(static_cast<float>(mass) * 0x1p-39f) {}
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

template <RowConfig c>
void filter_rows(const FilterRowsParams& p) {
  const i64 row_index = tile::block_index() / c.cluster;
  const RowFilter filter(p.filter, row_index);
  ClusterRow<c> row(p.in.data, row_index * p.in.stride, p.in.vocab, kSearchBytes);
  const i64 first = row_index * p.out_stride;
  const u32 largest = row.read();
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
