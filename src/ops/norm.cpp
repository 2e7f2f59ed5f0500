#include "quire/norm.h"

#include <fmt/format.h>

#include <cmath>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/norm.h"
#include "cuda/norm.h"

namespace quire {
namespace {

using check::Arg;
using kernels::RmsNormConfig;
using kernels::RmsNormParams;

void check_rows_of(const Arg& arg, const Arg& input, bool is_output) {
  check::dtype(arg, {input.tensor.dtype});
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
  check::dtype(weight, {input.tensor.dtype});
  check::dim(weight, 0, input.tensor.shape[input.tensor.rank - 1],
             "last dimension of " + std::string(input.name));
  check::last_dim_contiguous(weight);
  check::device(weight, input);
  check::memory(weight);
}

void check_eps(const char* op, float eps) {
  if (std::isfinite(eps) && eps >= 0) return;
  check::fail(op, "eps", fmt::format("{}", eps), "a finite number, 0 or above");
}

// Sizes, and input as the source of the values.
RmsNormParams make_params(const Arg& input, const TensorView& weight, float eps) {
  const TensorView& t = input.tensor;
  RmsNormParams p{};
  p.heads = t.rank == 3 ? rows::count(input, t.shape[1], "heads") : 1;
  p.rows = rows::count(input, t.shape[0] * p.heads, "rows");
  p.hidden = rows::count(input, t.shape[t.rank - 1], "elements a row");
  p.eps = eps;
  p.input = t.data;
  p.input_token_stride = rows::step(t, 0);
  p.input_head_stride = t.rank == 3 ? rows::step(t, 1) : 0;
  p.weight = weight.data;
  return p;
}

void run(const char* op, const RmsNormConfig& config, const RmsNormParams& params, Device device,
         Stream stream) {
  if (params.rows == 0 || params.hidden == 0) return;
  dispatch(
      op, device, [&] { cpu::rms_norm(config, params); },
      [&] { cuda::rms_norm(config, params, device.index, stream); });
}

}  // namespace

void rms_norm(const TensorView& input, const TensorView& weight, const TensorView& out, float eps,
              Stream stream) {
  constexpr const char* kOp = "rms_norm";
  const Arg input_arg{kOp, "input", input}, out_arg{kOp, "out", out};
  check_input(input_arg, false);
  check_weight({kOp, "weight", weight}, input_arg);
  check_rows_of(out_arg, input_arg, true);
  rows::in_place_or_apart(out_arg, input_arg);
  check_eps(kOp, eps);

  RmsNormParams p = make_params(input_arg, weight, eps);
  p.out = out.data;
  p.out_token_stride = rows::step(out, 0);
  p.out_head_stride = out.rank == 3 ? rows::step(out, 1) : 0;
  run(kOp, {.dtype = check::to_kernel(input.dtype)}, p, input.device, stream);
}

void fused_add_rms_norm(const TensorView& input, const TensorView& residual,
                        const TensorView& weight, float eps, Stream stream) {
  constexpr const char* kOp = "fused_add_rms_norm";
  const Arg input_arg{kOp, "input", input}, residual_arg{kOp, "residual", residual};
  check::rank(input_arg, 2);
  check_input(input_arg, true);
  check_rows_of(residual_arg, input_arg, true);
  check_weight({kOp, "weight", weight}, input_arg);
  check_eps(kOp, eps);
  if (input.data == residual.data && input.numel() > 0) {
    check::fail(kOp, "residual", "the memory of input", "memory of its own");
  }

  RmsNormParams p = make_params(input_arg, weight, eps);
  p.residual = residual.data;
  p.residual_token_stride = rows::step(residual, 0);
  p.out = input.data;
  p.out_token_stride = p.input_token_stride;
  run(kOp, {.dtype = check::to_kernel(input.dtype), .fused_add = true}, p, input.device, stream);
}

}  // namespace quire
