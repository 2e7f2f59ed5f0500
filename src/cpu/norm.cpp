#include "cpu/norm.h"

#include <cmath>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::NormConfig;
using kernels::NormKind;
using kernels::NormParams;
using kernels::Scaling;

// One row and its places.
struct Row {
  const NormConfig& config;
  const NormParams& p;
  std::int64_t index, input, residual, out;

  Row(const NormConfig& c, const NormParams& params, std::int64_t row)
      : config(c), p(params), index(row) {
    const std::int64_t token = row / p.heads, head = row % p.heads;
    input = token * p.input_token_stride + head * p.input_head_stride;
    residual = token * p.residual_token_stride + head * p.residual_head_stride;
    out = token * p.out_token_stride + head * p.out_head_stride;
  }

  // The values to normalise: with fused_add the residual, as it is stored.
  void load(float* x, int begin, int n) const {
    const bool sum = config.fused_add;
    load_row(x, sum ? p.residual : p.input, config.dtype, (sum ? residual : input) + begin, n);
  }

  void add() const {
    float x[kRowPiece], sum[kRowPiece];
    for_each_piece(p.hidden, [&](int begin, int n) {
      load_row(x, p.input, config.dtype, input + begin, n);
      load_row(sum, p.residual, config.dtype, residual + begin, n);
      for (int i = 0; i < n; ++i) sum[i] += x[i];
      store_row(p.residual, config.dtype, residual + begin, sum, n);
    });
  }

  // Normalised, weighted, shifted.
  void apply(float* x, int begin, int n, float mean, float scale) const {
    float weight[kRowPiece], bias[kRowPiece] = {};
    load(x, begin, n);
    load_row(weight, p.weight, config.weight_dtype, begin, n);
    if (config.kind == NormKind::rms) {
      for (int i = 0; i < n; ++i) x[i] = x[i] * scale * (weight[i] + p.weight_bias);
      return;
    }
    load_row(bias, p.bias, config.weight_dtype, begin, n);
    for (int i = 0; i < n; ++i) {
      x[i] = (x[i] - mean) * scale * (weight[i] + p.weight_bias) + bias[i];
    }
  }
};

// Sum of x, or of (x - mean)^2.
float sum_of(const Row& row, bool squares, float mean) {
  float x[kRowPiece];
  float sum = 0;
  for_each_piece(row.p.hidden, [&](int begin, int n) {
    row.load(x, begin, n);
    float piece_sum = 0;
#pragma omp simd reduction(+ : piece_sum)
    for (int i = 0; i < n; ++i) piece_sum += squares ? (x[i] - mean) * (x[i] - mean) : x[i];
    sum += piece_sum;
  });
  return sum;
}

// What the output is divided by.
float output_scale(const Row& row, float mean, float scale) {
  const NormParams& p = row.p;
  if (row.config.scaling == Scaling::none) return 1;
  if (row.config.scaling == Scaling::given) return p.given_scale ? *p.given_scale : p.scale_value;
  float x[kRowPiece];
  float amax = 0;
  for_each_piece(p.hidden, [&](int begin, int n) {
    row.apply(x, begin, n, mean, scale);
    for (int i = 0; i < n; ++i) amax = std::fmax(amax, std::fabs(x[i]));
  });
  return p.computed_scales[row.index] =
             kernels::fp8_scale(amax, row.config.out_dtype, p.power_of_two);
}

void norm_row(const Row& row) {
  const NormParams& p = row.p;
  const auto size = static_cast<float>(p.hidden);
  if (row.config.fused_add) row.add();
  const float mean = row.config.kind == NormKind::layer ? sum_of(row, false, 0) / size : 0;
  const float scale = 1.f / std::sqrt(sum_of(row, true, mean) / size + p.eps);
  const float inverse = 1.f / output_scale(row, mean, scale);
  float x[kRowPiece];
  for_each_piece(p.hidden, [&](int begin, int n) {
    row.apply(x, begin, n, mean, scale);
    if (row.config.scaling != Scaling::none) {
      for (int i = 0; i < n; ++i) x[i] *= inverse;
    }
    store_row(p.out, row.config.out_dtype, row.out + begin, x, n);
  });
}

}  // namespace

void normalize(const NormConfig& config, const NormParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.rows) * p.hidden;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) norm_row(Row(config, p, row));
}

}  // namespace quire::cpu
