// One row of the vocabulary on the CPU: its keys, and what a filter keeps of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/sampling_types.h"

namespace quire::cpu {

// A token's place in the order by descending key, then ascending index: larger comes first.
using TokenKey = std::uint64_t;

constexpr TokenKey token_key(std::uint32_t key, std::int32_t index) {
  return static_cast<TokenKey>(key) << 32 | static_cast<std::uint32_t>(~index);
}

struct TokenRow {
  std::vector<std::uint32_t> keys;  // [vocab]
  std::uint32_t largest = 0;        // of keys
  std::vector<TokenKey> order;      // memory of the searches

  explicit TokenRow(std::int32_t vocab)
      : keys(static_cast<std::size_t>(vocab)), order(static_cast<std::size_t>(vocab)) {}
  std::uint64_t mass(std::uint32_t key) const {
    return kernels::token_mass(key, kernels::probability_exponent(largest));
  }
  // The mass of token i if it is among those from `smallest` up.
  std::uint64_t kept_mass(std::int32_t i, TokenKey smallest) const {
    const std::uint32_t key = keys[static_cast<std::size_t>(i)];
    return token_key(key, i) >= smallest ? mass(key) : 0;
  }
};

// Fills keys and largest from row `row` of `in`; for RowKeys::weights `temperature` is a valid one.
// False for a row of probabilities or weights that is no distribution (a row of zeros too).
bool load_row_keys(TokenRow& to, const kernels::RowsIn& in, std::int64_t row, kernels::DType dtype,
                   kernels::RowKeys keys, float temperature);

// One row's parameters.
struct RowFilter {
  std::int32_t top_k;
  float top_p, min_p;
  bool joint;
};
RowFilter row_filter(const kernels::FilterParams& params, std::int64_t row);
bool is_valid(const RowFilter& filter);  // no NaN

// The last token, in order, that the filter keeps. Without `has_mass` only top-k counts.
TokenKey smallest_kept(TokenRow& row, const RowFilter& filter, bool has_mass);

}  // namespace quire::cpu
