// What is asked of an output row.
#pragma once

#include "sampling/row_filter.h"

namespace quire::kernels {

// The output row of the block's cluster; found anew each time, since registers are short.
template <RowConfig c>
inline i64 row_of_block() {
  return tile::opaque(tile::block_index()) / c.cluster;
}

template <RowConfig c>
struct RowRequest {
  RowFilter filter;
  float temperature = 1.f;
  bool valid;

  RowRequest(const FilterRowsParams& p, i64 row_index)
      : filter(p.filter, row_index), valid(filter.is_valid()) {}
  RowRequest(const SampleParams& p, i64 row_index)
      : filter(p.filter, row_index), valid(filter.is_valid()) {
    if constexpr (c.keys == RowKeys::weights) {
      temperature = p.temperature.at(row_index);
      valid = valid && is_temperature(temperature);
      if (temperature == 0.f) filter.top_k = 1;
    }
  }
};

// Whether the row, whose largest key is known, is a distribution.
template <RowConfig c>
inline bool is_distribution(u32 largest, float temperature) {
  if constexpr (c.keys == RowKeys::ordered) return true;
  if constexpr (c.keys == RowKeys::probabilities) {
    return largest != 0 && largest < kNotAProbability;
  }
  const float logit = tile::float_from_bits(bits_of_key(largest));
  if (largest == kNanKey || logit == tile::kNegInf) return false;
  return logit < tile::kInfinity || temperature == 0.f;
}

}  // namespace quire::kernels
