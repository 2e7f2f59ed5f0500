#include "cpu/sampling.h"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace quire::cpu {
namespace {

using kernels::RowValue;
using kernels::SampleParams;
using kernels::TokenFilter;

// A token's place in the order by descending probability, then ascending index: larger comes first.
using Key = std::uint64_t;

Key token_key(std::uint32_t bits, std::int32_t index) {
  return static_cast<Key>(bits) << 32 | static_cast<std::uint32_t>(~index);
}
std::uint32_t key_bits(Key key) { return static_cast<std::uint32_t>(key >> 32); }

std::uint32_t bits_of(float probability) {
  return kernels::probability_bits(std::bit_cast<std::uint32_t>(probability));
}

struct Row {
  std::span<const float> probs;
  std::int32_t largest_exponent;
  std::uint64_t mass(std::uint32_t bits) const {
    return kernels::token_mass(bits, largest_exponent);
  }
};

void keep_top_k(std::span<Key>& keys, std::int32_t k) {
  if (k <= 0 || static_cast<std::size_t>(k) >= keys.size()) return;
  std::ranges::nth_element(keys, keys.begin() + k, std::greater{});
  keys = keys.first(static_cast<std::size_t>(k));
}

// The first keys in order whose mass reaches `needed`. Sorts no more than needed, by stages.
void keep_mass(std::span<Key>& keys, const Row& row, std::uint64_t needed) {
  constexpr std::size_t kStage = 512;
  std::uint64_t mass = 0;
  std::size_t sorted = 0;
  for (std::size_t stage = kStage; sorted < keys.size(); stage *= 4) {
    const std::size_t end = std::min(keys.size(), sorted + stage);
    std::ranges::partial_sort(keys.subspan(sorted), keys.begin() + end, std::greater{});
    for (; sorted < end; ++sorted) {
      mass += row.mass(key_bits(keys[sorted]));
      if (mass < needed) continue;
      keys = keys.first(sorted + 1);
      return;
    }
  }
}

std::uint64_t total_mass(std::span<const Key> keys, const Row& row) {
  std::uint64_t total = 0;
  for (const Key key : keys) total += row.mass(key_bits(key));
  return total;
}

// The smallest key that the filter keeps. `keys` are those of the positive probabilities, in any
// order, and is used as memory.
Key smallest_kept(TokenFilter filter, const SampleParams& p, std::int64_t row_index, const Row& row,
                  std::span<Key> keys) {
  if (filter == TokenFilter::none) return 0;
  if (filter == TokenFilter::min_p) {
    const float largest = *std::ranges::max_element(row.probs);
    const float threshold = kernels::min_p_threshold(p.min_p.at(row_index), largest);
    return static_cast<Key>(bits_of(threshold)) << 32;
  }
  const std::uint64_t total = total_mass(keys, row);
  if (uses_top_k(filter)) keep_top_k(keys, p.top_k.at(row_index));
  if (uses_top_p(filter)) {
    const bool joint = filter == TokenFilter::top_k_and_top_p;
    const std::uint64_t whole = joint ? total : total_mass(keys, row);
    const std::uint64_t needed = kernels::nucleus_mass(p.top_p.at(row_index), whole);
    if (needed != 0) keep_mass(keys, row, needed);
  }
  return *std::ranges::min_element(keys);
}

std::int32_t draw(const Row& row, Key smallest, std::uint64_t random) {
  const auto kept_mass = [&](std::int32_t i) -> std::uint64_t {
    const std::uint32_t bits = bits_of(row.probs[i]);
    return token_key(bits, i) >= smallest ? row.mass(bits) : 0;
  };
  const auto vocab = static_cast<std::int32_t>(row.probs.size());
  std::uint64_t total = 0;
  for (std::int32_t i = 0; i < vocab; ++i) total += kept_mass(i);
  const std::uint64_t target = kernels::scale_random(random, total);
  std::uint64_t mass = 0;
  for (std::int32_t i = 0; i < vocab; ++i) {
    mass += kept_mass(i);
    if (mass > target) return i;
  }
  return -1;  // not reached: target < total
}

bool has_valid_parameters(TokenFilter filter, const SampleParams& p, std::int64_t row) {
  if (uses_top_p(filter)) return !std::isnan(p.top_p.at(row));
  if (filter == TokenFilter::min_p) return !std::isnan(p.min_p.at(row));
  return true;
}

// The id of one output row, -1 when it cannot be sampled. `memory` holds vocab keys.
std::int32_t sample_row(TokenFilter filter, const SampleParams& p, std::int64_t row_index,
                        std::span<Key> memory) {
  if (!has_valid_parameters(filter, p, row_index)) return -1;
  const std::int64_t source =
      p.indices == nullptr ? row_index : p.indices[row_index * p.indices_stride];
  const std::span probs(p.probs + source * p.probs_stride, static_cast<std::size_t>(p.vocab));
  std::uint32_t largest = 0;
  std::size_t count = 0;
  for (std::int32_t i = 0; i < p.vocab; ++i) {
    const std::uint32_t bits = bits_of(probs[i]);
    largest = std::max(largest, bits);
    if (bits != 0) memory[count++] = token_key(bits, i);
  }
  if (largest == 0 || largest >= kernels::kNotAProbability) return -1;
  const Row row{probs, kernels::probability_exponent(largest)};
  const Key smallest = smallest_kept(filter, p, row_index, row, memory.first(count));
  return draw(row, smallest, kernels::row_random(p, row_index));
}

}  // namespace

void sample(TokenFilter filter, const SampleParams& p) {
  const int num_threads = std::min(omp_get_max_threads(), p.rows);
  // Allocated here: an exception must not leave a thread of the loop.
  std::vector<Key> memory(static_cast<std::size_t>(num_threads) * p.vocab);
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
  for (std::int32_t row = 0; row < p.rows; ++row) {
    const std::size_t mine = static_cast<std::size_t>(omp_get_thread_num()) * p.vocab;
    const std::int32_t id = sample_row(filter, p, row, std::span(memory).subspan(mine, p.vocab));
    p.ids[row * p.ids_stride] = id;
    if (p.valid != nullptr) p.valid[row * p.valid_stride] = id >= 0 ? 1 : 0;
  }
}

}  // namespace quire::cpu
