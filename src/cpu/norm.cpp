#include "cpu/norm.h"

#include <cmath>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::RmsNormConfig;
using kernels::RmsNormParams;

// Adds a piece of input to residual, and reads it back as it was rounded.
void add_to_residual(float* x, const RmsNormConfig& config, const RmsNormParams& p,
                     std::int64_t input, std::int64_t residual, int n) {
  float sum[kRowPiece];
  load_row(x, p.input, config.dtype, input, n);
  load_row(sum, p.residual, config.dtype, residual, n);
  for (int i = 0; i < n; ++i) sum[i] += x[i];
  store_row(p.residual, config.dtype, residual, sum, n);
  load_row(x, p.residual, config.dtype, residual, n);
}

void norm_row(const RmsNormConfig& config, const RmsNormParams& p, std::int64_t row) {
  const std::int64_t token = row / p.heads, head = row % p.heads;
  const std::int64_t input = token * p.input_token_stride + head * p.input_head_stride;
  const std::int64_t residual = token * p.residual_token_stride + head * p.residual_head_stride;
  const std::int64_t out = token * p.out_token_stride + head * p.out_head_stride;

  float x[kRowPiece], weight[kRowPiece];
  float sum = 0;
  for_each_piece(p.hidden, [&](int begin, int n) {
    if (config.fused_add) {
      add_to_residual(x, config, p, input + begin, residual + begin, n);
    } else {
      load_row(x, p.input, config.dtype, input + begin, n);
    }
    float piece_sum = 0;
#pragma omp simd reduction(+ : piece_sum)
    for (int i = 0; i < n; ++i) piece_sum += x[i] * x[i];
    sum += piece_sum;
  });

  const float scale = 1.f / std::sqrt(sum / static_cast<float>(p.hidden) + p.eps);
  const void* source = config.fused_add ? p.residual : p.input;
  const std::int64_t source_row = config.fused_add ? residual : input;
  for_each_piece(p.hidden, [&](int begin, int n) {
    load_row(x, source, config.dtype, source_row + begin, n);
    load_row(weight, p.weight, config.dtype, begin, n);
    for (int i = 0; i < n; ++i) x[i] = x[i] * scale * weight[i];
    store_row(p.out, config.dtype, out + begin, x, n);
  });
}

}  // namespace

void rms_norm(const RmsNormConfig& config, const RmsNormParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.rows) * p.hidden;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) norm_row(config, p, row);
}

}  // namespace quire::cpu
