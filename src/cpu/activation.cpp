#include "cpu/activation.h"

#include <cmath>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::Activation;
using kernels::ActivationConfig;
using kernels::ActivationParams;
using kernels::ActivationRow;
using kernels::kScaleGroup;
using kernels::Scaling;

static_assert(kRowPiece % kScaleGroup == 0);

float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::silu:
      return x / (1.f + std::exp(-x));
    case Activation::gelu:
      return 0.5f * x * (1.f + std::erf(x * 0.7071067811865476f));
    case Activation::gelu_tanh:  // as a sigmoid, without the difference of numbers near 1
      return x / (1.f + std::exp(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
  }
  return x;
}

// Divides n elements from `begin` of a row by their scales.
void scale_piece(float* x, const ActivationConfig& config, const ActivationParams& p,
                 std::int64_t scale_at, int begin, int n) {
  if (config.scaling == Scaling::given) {
    const float inverse = 1.f / (p.given_scale != nullptr ? *p.given_scale : p.scale_value);
    for (int i = 0; i < n; ++i) x[i] *= inverse;
    return;
  }
  for (int group = 0; group < n; group += kScaleGroup) {
    float amax = 0;
    for (int i = group; i < group + kScaleGroup; ++i) amax = std::fmax(amax, std::fabs(x[i]));
    const float scale = kernels::fp8_scale(amax, config.out_dtype, p.power_of_two);
    p.computed_scales[scale_at + (begin + group) / kScaleGroup * p.scale_group_stride] = scale;
    for (int i = group; i < group + kScaleGroup; ++i) x[i] *= 1.f / scale;
  }
}

void activate_row(const ActivationConfig& config, const ActivationParams& p, std::int32_t row) {
  const ActivationRow at = find_row(p, row);
  float gate[kRowPiece], up[kRowPiece];
  for_each_piece(p.hidden, [&](int begin, int n) {
    load_row(gate, p.input, config.dtype, at.input + begin, n);
    load_row(up, p.input, config.dtype, at.input + p.hidden + begin, n);
    for (int i = 0; i < n; ++i) gate[i] = activate(config.activation, gate[i]) * up[i];
    if (config.scaling != Scaling::none) scale_piece(gate, config, p, at.scale, begin, n);
    store_row(p.out, config.out_dtype, at.out + begin, gate, n);
  });
}

}  // namespace

void activate_and_mul(const ActivationConfig& config, const ActivationParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.rows) * p.hidden;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) activate_row(config, p, row);
}

}  // namespace quire::cpu
