#include "cpu/sampling.h"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/rows.h"
#include "cpu/token_row.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::RowKeys;
using kernels::SampleParams;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A row for every thread, allocated before they start: an exception must not leave one of them.
template <class Body>
void for_each_row(std::int32_t rows, std::int32_t vocab, Body&& body) {
  const int num_threads = std::min(omp_get_max_threads(), rows);
  std::vector<TokenRow> memory(static_cast<std::size_t>(num_threads), TokenRow(vocab));
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
  for (std::int32_t row = 0; row < rows; ++row) {
    body(row, memory[static_cast<std::size_t>(omp_get_thread_num())]);
  }
}

struct Token {
  std::int32_t id = -1;
  float log_prob = kNan;
};

Token draw(const TokenRow& row, TokenKey smallest, std::uint64_t random) {
  const auto vocab = static_cast<std::int32_t>(row.keys.size());
  std::uint64_t total = 0;
  for (std::int32_t i = 0; i < vocab; ++i) total += row.kept_mass(i, smallest);
  const std::uint64_t target = kernels::scale_random(random, total);
  std::uint64_t running = 0;
  for (std::int32_t i = 0; i < vocab; ++i) {
    const std::uint64_t mass = row.kept_mass(i, smallest);
    running += mass;
    if (running <= target) continue;
    return {i, std::log(static_cast<float>(mass) / static_cast<float>(total))};
  }
  return {};  // not reached: target < total
}

Token sample_row(DType dtype, RowKeys keys, const SampleParams& p, std::int64_t row_index,
                 TokenRow& row) {
  RowFilter filter = row_filter(p.filter, row_index);
  const float temperature = keys == RowKeys::weights ? p.temperature.at(row_index) : 1;
  if (!is_valid(filter) || !kernels::is_temperature(temperature)) return {};
  if (temperature == 0) filter.top_k = 1;
  const std::int64_t source =
      p.indices == nullptr ? row_index : p.indices[row_index * p.indices_stride];
  if (!load_row_keys(row, p.in, source, dtype, keys, temperature)) return {};
  return draw(row, smallest_kept(row, filter, true), kernels::row_random(p, row_index));
}

// The probability divided by a sum of masses. Both are first put in units of the power of two below
// the largest probability, which rounds nothing.
float renormalised(float probability, std::uint32_t largest, std::uint64_t mass) {
  const float unit = std::ldexp(1.f, 127 - kernels::probability_exponent(largest));
  return probability * unit / (static_cast<float>(mass) * 0x1p-39f);
}

void filter_row(DType dtype, RowKeys keys, const kernels::FilterRowsParams& p,
                std::int64_t row_index, TokenRow& row) {
  const RowFilter filter = row_filter(p.filter, row_index);
  const bool is_mask = keys == RowKeys::ordered;
  const bool has_kept = load_row_keys(row, p.in, row_index, dtype, keys, 1);
  const bool is_bad = !is_mask && (row.largest >= kernels::kNotAProbability || !is_valid(filter));
  const TokenKey smallest = has_kept && !is_bad ? smallest_kept(row, filter, !is_mask) : 0;
  std::uint64_t mass = 0;
  if (has_kept && !is_bad && !is_mask) {
    for (std::int32_t i = 0; i < p.in.vocab; ++i) mass += row.kept_mass(i, smallest);
  }
  const auto value = [&](std::int32_t i) {
    const std::uint32_t key = row.keys[static_cast<std::size_t>(i)];
    const bool kept = token_key(key, i) >= smallest;
    if (is_bad) return kNan;
    if (is_mask) {
      return kept ? std::bit_cast<float>(kernels::bits_of_key(key))
                  : -std::numeric_limits<float>::infinity();
    }
    return has_kept && kept ? renormalised(std::bit_cast<float>(key), row.largest, mass) : 0.f;
  };
  float y[kRowPiece];
  for_each_piece(p.in.vocab, [&](int begin, int n) {
    for (int i = 0; i < n; ++i) y[i] = value(begin + i);
    store_row(p.out, dtype, row_index * p.out_stride + begin, y, n);
  });
}

}  // namespace

void sample(DType dtype, RowKeys keys, const SampleParams& p) {
  for_each_row(p.rows, p.in.vocab, [&](std::int32_t row, TokenRow& memory) {
    const Token token = sample_row(dtype, keys, p, row, memory);
    p.ids[row * p.ids_stride] = token.id;
    if (p.valid != nullptr) p.valid[row * p.valid_stride] = token.id >= 0 ? 1 : 0;
    if (p.log_probs != nullptr) p.log_probs[row * p.log_probs_stride] = token.log_prob;
  });
}

void filter_rows(DType dtype, RowKeys keys, const kernels::FilterRowsParams& p) {
  for_each_row(p.in.rows, p.in.vocab, [&](std::int32_t row, TokenRow& memory) {
    filter_row(dtype, keys, p, row, memory);
  });
}

}  // namespace quire::cpu
