#include "support/reference_sampling.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "sampling/token_mass.h"

namespace quire::test {
namespace {

__extension__ using Wide = unsigned __int128;

// Units of 2^-40 of the power of two above the largest probability, rounded down.
std::vector<std::uint64_t> masses(const std::vector<float>& probs) {
  int exponent = 0;
  std::frexp(*std::max_element(probs.begin(), probs.end()), &exponent);
  // Denormal numbers have the exponent of the smallest normal ones.
  exponent = std::max(exponent, -125);
  std::vector<std::uint64_t> result;
  for (const float p : probs) {
    result.push_back(
        static_cast<std::uint64_t>(std::floor(std::ldexp(static_cast<double>(p), 40 - exponent))));
  }
  return result;
}

// ceil(p * total), with p cut to units of 2^-32; at least 1.
std::uint64_t nucleus(float p, std::uint64_t total) {
  const double units = std::floor(std::clamp(static_cast<double>(p), 0.0, 1.0) * 0x1p32);
  const Wide product = static_cast<Wide>(units) * total + 0xffffffffu;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(product >> 32));
}

}  // namespace

std::vector<float> logit_weights(const std::vector<double>& logits, float temperature) {
  float largest = -INFINITY;
  for (const double x : logits) largest = std::max(largest, static_cast<float>(x));
  const kernels::WeightScale scale{largest, kernels::weight_scale(temperature)};
  std::vector<float> result;
  for (const double x : logits) {
    result.push_back(std::bit_cast<float>(kernels::weight_bits(static_cast<float>(x), scale)));
  }
  return result;
}

std::vector<bool> reference_kept(const std::vector<float>& probs, const ReferenceFilter& filter) {
  std::vector<std::size_t> order(probs.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return probs[a] > probs[b]; });
  const std::vector<std::uint64_t> mass = masses(probs);
  const auto mass_of = [&](std::size_t count) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += mass[order[i]];
    return sum;
  };

  std::size_t kept = order.size();
  if (filter.top_k && *filter.top_k > 0) {
    kept = std::min(kept, static_cast<std::size_t>(*filter.top_k));
  }
  if (filter.top_p && *filter.top_p < 1) {
    const std::uint64_t needed =
        nucleus(*filter.top_p, mass_of(filter.joint ? order.size() : kept));
    std::uint64_t sum = 0;
    std::size_t nucleus_size = 0;
    while (nucleus_size < order.size() && sum < needed) sum += mass[order[nucleus_size++]];
    kept = std::min(kept, nucleus_size);
  }
  std::vector<bool> result(probs.size(), false);
  for (std::size_t i = 0; i < kept; ++i) result[order[i]] = true;
  if (filter.min_p) {
    const float threshold = std::clamp(*filter.min_p, 0.f, 1.f) * probs[order[0]];
    for (std::size_t i = 0; i < probs.size(); ++i) result[i] = result[i] && probs[i] >= threshold;
  }
  return result;
}

std::uint64_t reference_philox(std::uint64_t seed, std::uint64_t offset, std::uint64_t stream) {
  constexpr std::uint64_t kLow = 0xffffffffu;
  std::array<std::uint64_t, 4> x = {offset & kLow, offset >> 32, stream & kLow, stream >> 32};
  std::array<std::uint64_t, 2> key = {seed & kLow, seed >> 32};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = x[0] * 0xd2511f53u, b = x[2] * 0xcd9e8d57u;
    x = {(b >> 32) ^ x[1] ^ key[0], b & kLow, (a >> 32) ^ x[3] ^ key[1], a & kLow};
    key = {(key[0] + 0x9e3779b9u) & kLow, (key[1] + 0xbb67ae85u) & kLow};
  }
  return x[0] << 32 | x[1];
}

int reference_token(const std::vector<float>& probs, const ReferenceFilter& filter,
                    std::uint64_t random) {
  const std::vector<bool> kept = reference_kept(probs, filter);
  const std::vector<std::uint64_t> mass = masses(probs);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < probs.size(); ++i) total += kept[i] ? mass[i] : 0;
  const auto target = static_cast<std::uint64_t>(static_cast<Wide>(random) * total >> 64);
  std::uint64_t running = 0;
  for (std::size_t i = 0; i < probs.size(); ++i) {
    running += kept[i] ? mass[i] : 0;
    if (running > target) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace quire::test
