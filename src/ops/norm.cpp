#include "quire/norm.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "core/scale_arguments.h"
#include "cpu/norm.h"
#include "cuda/norm.h"

namespace quire {
namespace {

using check::Arg;
using kernels::NormConfig;
using kernels::NormKind;
using kernels::NormParams;

// One call of any of the functions.
struct Norm {
  const char* op;
  const TensorView& input;
  const TensorView* residual;  // of the fused forms
  const TensorView& weight;
  const TensorView* bias;  // of layer norm
  const TensorView& out;
  const Fp8Scale* scale;  // of the quantizing forms
  float eps;
  float weight_bias;

  const char* weight_name() const { return bias != nullptr ? "gamma" : "weight"; }
  bool overwrites_input() const { return &out == &input; }
};

void check_rows_of(const Arg& arg, const Arg& input, bool is_output) {
  check::same_shape(arg, input);
  check::last_dim_contiguous(arg);
  check::device(arg, input);
  check::memory(arg, is_output);
}

void check_input(const Arg& input, bool is_output) {
  if (input.tensor.rank != 2 && input.tensor.rank != 3) {
    check::fail(input.op, input.name, to_string(input.tensor), "rank 2 or 3");
  }
  check::dtype(input, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(input);
  check::memory(input, is_output);
}

void check_weight(const Arg& weight, const Arg& input) {
  check::rank(weight, 1);
  if (weight.tensor.dtype != DType::f32) check::dtype(weight, {input.tensor.dtype, DType::f32});
  check::dim(weight, 0, input.tensor.shape[input.tensor.rank - 1],
             "last dimension of " + std::string(input.name));
  check::last_dim_contiguous(weight);
  check::device(weight, input);
  check::memory(weight);
}

void check_number(const char* op, const char* name, float value, float least) {
  if (std::isfinite(value) && value >= least) return;
  check::fail(op, name, fmt::format("{}", value),
              least == 0 ? "a finite number, 0 or above" : "a finite number");
}

void check_residual(const Norm& n, const Arg& input) {
  const Arg residual{n.op, "residual", *n.residual};
  check::dtype(residual, {n.input.dtype});
  check_rows_of(residual, input, true);
  if (n.input.data == n.residual->data && n.input.numel() > 0) {
    check::fail(n.op, "residual", "the memory of input", "memory of its own");
  }
}

check::ScaleParams check_out(const Norm& n, const Arg& input) {
  const Arg out{n.op, "out", n.out};
  check::ScaleParams scale;
  if (n.scale == nullptr) {
    check::dtype(out, {n.input.dtype});
  } else {
    scale = check::fp8_scale(out, *n.scale);
  }
  check_rows_of(out, input, true);
  if (n.scale == nullptr) rows::in_place_or_apart(out, input);
  if (scale.computed != nullptr) {
    const Arg scales{n.op, "scales", n.scale->tensor()};
    check::rank(scales, n.input.rank - 1);
    for (int d = 0; d + 1 < n.input.rank; ++d) {
      check::dim(scales, d, n.input.shape[d], "as in input");
    }
    check::contiguous(scales);
  }
  return scale;
}

NormParams make_params(const Norm& n, const Arg& input, const check::ScaleParams& scale) {
  const TensorView& t = n.input;
  NormParams p{};
  p.heads = t.rank == 3 ? rows::count(input, t.shape[1], "heads") : 1;
  p.rows = rows::count(input, t.shape[0] * p.heads, "rows");
  p.hidden = rows::count(input, t.shape[t.rank - 1], "elements a row");
  p.eps = n.eps;
  p.weight_bias = n.weight_bias;
  const auto head_step = [&](const TensorView& x) { return t.rank == 3 ? rows::step(x, 1) : 0; };
  p.input = t.data;
  p.input_token_stride = rows::step(t, 0);
  p.input_head_stride = head_step(t);
  p.out = n.out.data;
  p.out_token_stride = rows::step(n.out, 0);
  p.out_head_stride = head_step(n.out);
  if (n.residual != nullptr) {
    p.residual = n.residual->data;
    p.residual_token_stride = rows::step(*n.residual, 0);
    p.residual_head_stride = head_step(*n.residual);
  }
  p.weight = n.weight.data;
  p.bias = n.bias != nullptr ? n.bias->data : nullptr;
  p.given_scale = scale.given;
  p.scale_value = scale.value;
  p.computed_scales = scale.computed;
  p.power_of_two = scale.power_of_two;
  return p;
}

void run(const Norm& n, Stream stream) {
  const Arg input{n.op, "input", n.input};
  if (n.residual != nullptr) check::rank(input, 2);
  check_input(input, n.overwrites_input());
  const Arg weight{n.op, n.weight_name(), n.weight};
  check_weight(weight, input);
  if (n.bias != nullptr) {
    const Arg bias{n.op, "beta", *n.bias};
    check::dtype(bias, {n.weight.dtype});
    check_weight(bias, input);
  }
  if (n.residual != nullptr) check_residual(n, input);
  const check::ScaleParams scale = check_out(n, input);
  check_number(n.op, "eps", n.eps, 0);
  check_number(n.op, "weight_bias", n.weight_bias, std::numeric_limits<float>::lowest());

  const NormParams params = make_params(n, input, scale);
  if (params.rows == 0 || params.hidden == 0) return;
  const NormConfig config{.kind = n.bias != nullptr ? NormKind::layer : NormKind::rms,
                          .dtype = check::to_kernel(n.input.dtype),
                          .weight_dtype = check::to_kernel(n.weight.dtype),
                          .out_dtype = check::to_kernel(n.out.dtype),
                          .scaling = scale.scaling,
                          .fused_add = n.residual != nullptr};
  dispatch(
      n.op, n.input.device, [&] { cpu::normalize(config, params); },
      [&] { cuda::normalize(config, params, n.input.device.index, stream); });
}

}  // namespace

void rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out, float eps,
              Stream stream) {
  run({"rms_norm", input, nullptr, weight, nullptr, out, nullptr, eps, 0}, stream);
}

void gemma_rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out,
                    float eps, Stream stream) {
  run({"gemma_rms_norm", input, nullptr, weight, nullptr, out, nullptr, eps, 1}, stream);
}

void fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                        const TensorView& weight, float eps, Stream stream) {
  run({"fused_add_rms_norm", input, &residual, weight, nullptr, input, nullptr, eps, 0}, stream);
}

void gemma_fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                              const TensorView& weight, float eps, Stream stream) {
  run({"gemma_fused_add_rms_norm", input, &residual, weight, nullptr, input, nullptr, eps, 1},
      stream);
}

void layer_norm(const TensorView& input, const TensorView& gamma, const TensorView& beta,
                const TensorView& out, float eps, Stream stream) {
  run({"layer_norm", input, nullptr, gamma, &beta, out, nullptr, eps, 0}, stream);
}

void rms_norm_quant(const TensorView& input, const TensorView& weight, const TensorView& out,
                    const Fp8Scale& scale, const NormQuantOptions& options, Stream stream) {
  run({"rms_norm_quant", input, nullptr, weight, nullptr, out, &scale, options.eps,
       options.weight_bias},
      stream);
}

void fused_add_rms_norm_quant(const TensorView& input, const TensorView& residual,
                              const TensorView& weight, const TensorView& out,
                              const Fp8Scale& scale, const NormQuantOptions& options,
                              Stream stream) {
  run({"fused_add_rms_norm_quant", input, &residual, weight, nullptr, out, &scale, options.eps,
       options.weight_bias},
      stream);
}

void layer_norm_quant(const TensorView& input, const TensorView& gamma, const TensorView& beta,
                      const TensorView& out, const Fp8Scale& scale, const NormQuantOptions& options,
                      Stream stream) {
  run({"layer_norm_quant", input, nullptr, gamma, &beta, out, &scale, options.eps,
       options.weight_bias},
      stream);
}

}  // namespace quire
