#include "cpu/token_row.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::RowKeys;

// word(bits) for the bits of every element as f32.
template <class Word>
void fill_keys(TokenRow& to, const kernels::RowsIn& in, std::int64_t row, kernels::DType dtype,
               Word&& word) {
  float x[kRowPiece];
  for_each_piece(in.vocab, [&](int begin, int n) {
    load_row(x, in.data, dtype, row * in.stride + begin, n);
    for (int i = 0; i < n; ++i) {
      to.keys[static_cast<std::size_t>(begin + i)] = word(std::bit_cast<std::uint32_t>(x[i]));
    }
  });
}

// Logits to weights; `to.keys` has the logits' bits.
bool weigh(TokenRow& to, float temperature) {
  std::uint32_t largest = 0;
  for (const std::uint32_t bits : to.keys) {
    largest = std::max(largest, kernels::ordered_key(bits));
  }
  const auto logit = std::bit_cast<float>(kernels::bits_of_key(largest));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (largest == kernels::kNanKey || logit == -kInfinity) return false;
  if (logit == kInfinity && temperature != 0) return false;
  const kernels::WeightScale scale{logit, kernels::weight_scale(temperature)};
  for (std::uint32_t& key : to.keys) key = kernels::weight_bits(std::bit_cast<float>(key), scale);
  return true;
}

std::uint64_t total_mass(std::span<const TokenKey> keys, const TokenRow& row) {
  std::uint64_t total = 0;
  for (const TokenKey key : keys) total += row.mass(static_cast<std::uint32_t>(key >> 32));
  return total;
}

// The first keys in order whose mass reaches `needed`. Sorts no more than needed, by stages.
std::span<TokenKey> first_mass(std::span<TokenKey> keys, const TokenRow& row,
                               std::uint64_t needed) {
  constexpr std::size_t kStage = 512;
  std::uint64_t mass = 0;
  std::size_t sorted = 0;
  for (std::size_t stage = kStage; sorted < keys.size(); stage *= 4) {
    const std::size_t end = std::min(keys.size(), sorted + stage);
    std::ranges::partial_sort(keys.subspan(sorted), keys.begin() + static_cast<std::ptrdiff_t>(end),
                              std::greater{});
    for (; sorted < end; ++sorted) {
      mass += row.mass(static_cast<std::uint32_t>(keys[sorted] >> 32));
      if (mass >= needed) return keys.first(sorted + 1);
    }
  }
  return keys;
}

}  // namespace

bool load_row_keys(TokenRow& to, const kernels::RowsIn& in, std::int64_t row, kernels::DType dtype,
                   RowKeys keys, float temperature) {
  fill_keys(to, in, row, dtype, [&](std::uint32_t bits) {
    if (keys == RowKeys::probabilities) return kernels::probability_bits(bits);
    return keys == RowKeys::ordered ? kernels::ordered_key(bits) : bits;
  });
  if (keys == RowKeys::weights && !weigh(to, temperature)) return false;
  to.largest = *std::ranges::max_element(to.keys);
  if (keys != RowKeys::probabilities) return true;
  return to.largest != 0 && to.largest < kernels::kNotAProbability;
}

RowFilter row_filter(const kernels::FilterParams& p, std::int64_t row) {
  return {p.top_k.at(row), p.top_p.at(row), p.min_p.at(row), p.joint != 0};
}

bool is_valid(const RowFilter& filter) {
  return !std::isnan(filter.top_p) && !std::isnan(filter.min_p);
}

TokenKey smallest_kept(TokenRow& row, const RowFilter& filter, bool has_mass) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < row.keys.size(); ++i) {
    if (row.keys[i] != 0) row.order[count++] = token_key(row.keys[i], static_cast<std::int32_t>(i));
  }
  std::span<TokenKey> kept = std::span(row.order).first(count);
  const std::uint64_t whole = has_mass ? total_mass(kept, row) : 0;
  const auto k = static_cast<std::size_t>(std::max(filter.top_k, 0));
  if (k > 0 && k < kept.size()) {
    std::ranges::nth_element(kept, kept.begin() + static_cast<std::ptrdiff_t>(k), std::greater{});
    kept = kept.first(k);
  }
  if (!has_mass) return kept.empty() ? 0 : *std::ranges::min_element(kept);
  const std::uint64_t total = filter.joint ? whole : total_mass(kept, row);
  const std::uint64_t needed = kernels::nucleus_mass(filter.top_p, total);
  if (needed != 0) kept = first_mass(kept, row, needed);
  const float threshold = kernels::min_p_threshold(filter.min_p, std::bit_cast<float>(row.largest));
  const TokenKey by_min_p = static_cast<TokenKey>(std::bit_cast<std::uint32_t>(threshold)) << 32;
  return std::max(*std::ranges::min_element(kept), by_min_p);
}

}  // namespace quire::cpu
