#include "cpu/token_log_probs.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::TokenLogProbsParams;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Calls visit(index, logit) for the row that begins at element `offset`.
template <class Visit>
void for_each_logit(const TokenLogProbsParams& p, DType dtype, std::int64_t offset, Visit&& visit) {
  float x[kRowPiece];
  for_each_piece(p.in.vocab, [&](int begin, int n) {
    load_row(x, p.in.data, dtype, offset + begin, n);
    for (int i = 0; i < n; ++i) visit(begin + i, x[i]);
  });
}

// What tokens of one row are measured by.
struct RowTotal {
  bool is_distribution = false;
  float largest = -kInfinity;
  std::int32_t best = 0;  // the lowest index of the largest
  double log_sum = 0;     // of exp((logit - largest) / temperature)
};

RowTotal row_total(const TokenLogProbsParams& p, DType dtype, std::int64_t offset,
                   float temperature) {
  RowTotal row;
  bool has_nan = !(temperature >= 0 && temperature < kInfinity);
  for_each_logit(p, dtype, offset, [&](int i, float x) {
    has_nan |= std::isnan(x);
    if (x > row.largest) row.largest = x, row.best = i;
  });
  const bool is_infinite = row.largest == kInfinity && temperature != 0;
  row.is_distribution = !has_nan && !is_infinite && row.largest != -kInfinity;
  if (!row.is_distribution || temperature == 0) return row;
  double sum = 0;
  for_each_logit(p, dtype, offset, [&](int, float x) {
    sum += std::exp((static_cast<double>(x) - row.largest) / temperature);
  });
  row.log_sum = std::log(sum);
  return row;
}

void log_probs_of_row(DType dtype, const TokenLogProbsParams& p, std::int64_t index) {
  const std::int64_t offset = index * p.in.stride;
  const float temperature = p.temperature.at(index);
  const RowTotal row = row_total(p, dtype, offset, temperature);
  for (std::int64_t i = 0; i < p.tokens; ++i) {
    const std::int32_t id = p.ids[index * p.ids_stride + i];
    float& out = p.out[index * p.out_stride + i];
    if (!row.is_distribution || id < 0 || id >= p.in.vocab) {
      out = kNan;
    } else if (temperature == 0) {
      out = id == row.best ? 0.f : -kInfinity;
    } else {
      float x;
      load_row(&x, p.in.data, dtype, offset + id, 1);
      out = static_cast<float>((static_cast<double>(x) - row.largest) / temperature - row.log_sum);
    }
  }
}

}  // namespace

void token_log_probs(DType dtype, const TokenLogProbsParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.in.rows) * p.in.vocab;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.in.rows; ++row) log_probs_of_row(dtype, p, row);
}

}  // namespace quire::cpu
