#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/rows.h"
#include "cpu/sampling.h"

namespace quire::cpu {
namespace {

using kernels::ArgmaxParams;
using kernels::DType;
using kernels::SoftmaxParams;
using kernels::TokenLogProbsParams;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Calls visit(index, logit) for a row that begins at element `offset`.
template <class Visit>
void for_each_logit(const void* logits, DType dtype, std::int64_t offset, int vocab,
                    Visit&& visit) {
  float x[kRowPiece];
  for_each_piece(vocab, [&](int begin, int n) {
    load_row(x, logits, dtype, offset + begin, n);
    for (int i = 0; i < n; ++i) visit(begin + i, x[i]);
  });
}

struct Largest {
  float value = -kInfinity;
  std::int32_t index = 0;  // the lowest of equals; -1: the row has a NaN
};

Largest find_largest(const void* logits, DType dtype, std::int64_t offset, int vocab) {
  Largest result;
  bool has_nan = false;
  for_each_logit(logits, dtype, offset, vocab, [&](int i, float x) {
    has_nan |= std::isnan(x);
    if (x > result.value) result = {x, i};
  });
  if (has_nan) result.index = -1;
  return result;
}

// Whether the row is no distribution: by its temperature, a NaN, or a +inf, whose differences to
// others would be NaN; temperature 0 takes none.
bool is_undefined(const Largest& largest, float temperature) {
  const bool bad_temperature = !(temperature >= 0 && temperature < kInfinity);
  return bad_temperature || largest.index < 0 || (largest.value == kInfinity && temperature != 0);
}

void softmax_row(DType dtype, const SoftmaxParams& p, std::int64_t row) {
  const std::int64_t offset = row * p.in.stride;
  float* probs = p.probs + row * p.probs_stride;
  const float temperature = p.temperature.at(row);
  const Largest largest = find_largest(p.in.data, dtype, offset, p.in.vocab);
  if (is_undefined(largest, temperature)) {
    std::fill_n(probs, p.in.vocab, kNan);
    return;
  }
  if (largest.value == -kInfinity || temperature == 0) {
    std::fill_n(probs, p.in.vocab, 0.f);
    if (largest.value != -kInfinity) probs[largest.index] = 1.f;
    return;
  }
  double sum = 0;
  for_each_logit(p.in.data, dtype, offset, p.in.vocab, [&](int i, float x) {
    probs[i] = std::exp((x - largest.value) / temperature);
    sum += probs[i];
  });
  const auto inverse = static_cast<float>(1 / sum);
  for (int i = 0; i < p.in.vocab; ++i) probs[i] *= inverse;
}

void log_probs_of_row(DType dtype, const TokenLogProbsParams& p, std::int64_t row) {
  const std::int64_t offset = row * p.in.stride;
  const float temperature = p.temperature.at(row);
  const Largest largest = find_largest(p.in.data, dtype, offset, p.in.vocab);
  const bool is_distribution = !is_undefined(largest, temperature) && largest.value != -kInfinity;
  const auto relative = [&](float x) {
    return (static_cast<double>(x) - largest.value) / temperature;
  };
  double sum = 0;
  if (is_distribution && temperature != 0) {
    for_each_logit(p.in.data, dtype, offset, p.in.vocab,
                   [&](int, float x) { sum += std::exp(relative(x)); });
  }
  for (std::int64_t i = 0; i < p.tokens; ++i) {
    const std::int32_t id = p.ids[row * p.ids_stride + i];
    float& out = p.out[row * p.out_stride + i];
    if (!is_distribution || id < 0 || id >= p.in.vocab) {
      out = kNan;
    } else if (temperature == 0) {
      out = id == largest.index ? 0.f : -kInfinity;
    } else {
      float x;
      load_row(&x, p.in.data, dtype, offset + id, 1);
      out = static_cast<float>(relative(x) - std::log(sum));
    }
  }
}

}  // namespace

void softmax(DType dtype, const SoftmaxParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.in.rows) * p.in.vocab;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.in.rows; ++row) softmax_row(dtype, p, row);
}

void argmax(DType dtype, const ArgmaxParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.in.rows) * p.in.vocab;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.in.rows; ++row) {
    p.ids[row * p.ids_stride] = find_largest(p.in.data, dtype, row * p.in.stride, p.in.vocab).index;
  }
}

void token_log_probs(DType dtype, const TokenLogProbsParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.in.rows) * p.in.vocab;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.in.rows; ++row) log_probs_of_row(dtype, p, row);
}

}  // namespace quire::cpu
