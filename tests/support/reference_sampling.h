// What the samplers must draw, from their documented definition, with a sort and 128-bit integers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace quire::test {

// Limits that are not given filter nothing.
struct ReferenceFilter {
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  bool joint = false;  // top_p counts the mass of all tokens, not of the top k
};

// The weights of a row of logits (kernels/sampling/token_mass.h), which must be sampled as a row of
// probabilities of the same bits is.
std::vector<float> logit_weights(const std::vector<double>& logits, float temperature);

// Whether a token is kept, by index. Probabilities are not negative and finite, one is positive.
std::vector<bool> reference_kept(const std::vector<float>& probs, const ReferenceFilter& filter);

// 64 random bits: the first two words of Philox4x32-10.
std::uint64_t reference_philox(std::uint64_t seed, std::uint64_t offset, std::uint64_t stream);

int reference_token(const std::vector<float>& probs, const ReferenceFilter& filter,
                    std::uint64_t random);

}  // namespace quire::test
