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

void softmax_row(DType dtype, const SoftmaxParams& p, std::int64_t row) {
  const std::int64_t offset = row * p.in.stride;
  float* probs = p.probs + row * p.probs_stride;
  const float temperature = p.temperature.at(row);
  const Largest largest = find_largest(p.in.data, dtype, offset, p.in.vocab);
  const bool bad_temperature = !(temperature >= 0 && temperature < kInfinity);
  // With a +inf the differences below would be NaN; temperature 0 takes none.
  const bool undefined = largest.value == kInfinity && temperature != 0;
  if (bad_temperature || largest.index < 0 || undefined) {
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

}  // namespace quire::cpu
