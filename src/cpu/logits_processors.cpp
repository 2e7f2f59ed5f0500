#include "cpu/logits_processors.h"

#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::LogitsProcessorsParams;

bool bit(const std::uint32_t* mask, std::int64_t first_word, int i) {
  return (mask[first_word + i / 32] >> (i % 32) & 1) != 0;
}

// `biases` is zeros, and is again afterwards.
void process_row(DType dtype, const LogitsProcessorsParams& p, std::int64_t row,
                 std::vector<float>& biases) {
  const auto for_each_bias = [&](auto&& visit) {
    for (int j = 0; j < p.num_biases; ++j) {
      const int id = p.bias_ids[row * p.bias_ids_stride + j];
      if (id < 0 || id >= p.in.vocab) continue;
      visit(biases[static_cast<std::size_t>(id)], p.bias_values[row * p.bias_values_stride + j]);
    }
  };
  for_each_bias([](float& sum, float bias) { sum += bias; });
  const kernels::LogitsPenalties penalties(p, row);
  float x[kRowPiece];
  for_each_piece(p.in.vocab, [&](int begin, int n) {
    load_row(x, p.in.data, dtype, row * p.in.stride + begin, n);
    for (int j = 0; j < n; ++j) {
      const int i = begin + j;
      const bool in_prompt =
          p.prompt_mask != nullptr && bit(p.prompt_mask, row * p.prompt_mask_stride, i);
      const int count =
          p.output_counts != nullptr ? p.output_counts[row * p.output_counts_stride + i] : 0;
      x[j] += biases[static_cast<std::size_t>(i)];
      if (in_prompt || count > 0) x[j] = penalties.of_seen(x[j], count);
      x[j] = penalties.tempered(x[j]);
      if (p.allowed_mask != nullptr && !bit(p.allowed_mask, row * p.allowed_mask_stride, i)) {
        x[j] = -std::numeric_limits<float>::infinity();
      }
    }
    store_row(p.out, dtype, row * p.out_stride + begin, x, n);
  });
  for_each_bias([](float& sum, float) { sum = 0; });
}

}  // namespace

void apply_logits_processors(DType dtype, const LogitsProcessorsParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.in.rows) * p.in.vocab;
#pragma omp parallel if (elements >= kMinParallelElements)
  {
    std::vector<float> biases(static_cast<std::size_t>(p.in.vocab));
#pragma omp for schedule(static)
    for (std::int32_t row = 0; row < p.in.rows; ++row) process_row(dtype, p, row, biases);
  }
}

}  // namespace quire::cpu
