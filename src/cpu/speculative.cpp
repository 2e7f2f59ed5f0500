#include "cpu/speculative.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace quire::cpu {
namespace {

using kernels::ChainParams;

// The keys of max(target - draft, 0), draft being null for zeros; returns the largest.
std::uint32_t fill_keys(std::vector<std::uint32_t>& keys, const float* target, const float* draft) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = kernels::residual_bits(target[i], draft == nullptr ? 0.f : draft[i]);
  }
  return *std::ranges::max_element(keys);
}

// -1 when the largest key is that of no distribution.
std::int32_t draw(const std::vector<std::uint32_t>& keys, std::uint32_t largest,
                  std::uint64_t random) {
  if (largest == 0 || largest >= kernels::kNotAProbability) return -1;
  const std::int32_t exponent = kernels::probability_exponent(largest);
  std::uint64_t total = 0, running = 0;
  for (const std::uint32_t key : keys) total += kernels::token_mass(key, exponent);
  const std::uint64_t target = kernels::scale_random(random, total);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    running += kernels::token_mass(keys[i], exponent);
    if (running > target) return static_cast<std::int32_t>(i);
  }
  return -1;  // not reached: target < total
}

void sample_request(const ChainParams& p, std::int64_t request, std::vector<std::uint32_t>& keys) {
  const kernels::ChainStep step = kernels::walk_chain(p, request);
  const std::int32_t position = step.num_accepted;
  const float* target =
      p.target_probs + request * p.target_batch_stride + position * p.target_row_stride;
  const float* draft = position < p.drafts ? p.draft_probs + request * p.draft_batch_stride +
                                                 position * p.draft_row_stride
                                           : nullptr;
  std::uint32_t largest = fill_keys(keys, target, draft);
  // Rounding alone has rejected: the distributions are the same.
  if (largest == 0) largest = fill_keys(keys, target, nullptr);
  std::int32_t* ids = p.ids + request * p.ids_stride;
  std::copy_n(p.draft_ids + request * p.draft_ids_stride, position, ids);
  ids[position] = draw(keys, largest, kernels::chain_random(p, request, p.drafts));
  std::fill(ids + position + 1, ids + p.drafts + 1, -1);
  if (p.accepted != nullptr) p.accepted[request * p.accepted_stride] += step.independent;
  if (p.emitted != nullptr) p.emitted[request * p.emitted_stride] += position;
}

}  // namespace

void chain_speculative(const ChainParams& p) {
#pragma omp parallel
  {
    std::vector<std::uint32_t> keys(static_cast<std::size_t>(p.vocab));
#pragma omp for schedule(dynamic)
    for (std::int32_t request = 0; request < p.batch; ++request) sample_request(p, request, keys);
  }
}

void verify_tree(const kernels::TreeParams& p) {
  for (std::int32_t request = 0; request < p.batch; ++request) kernels::walk_tree(p, request);
}

}  // namespace quire::cpu
