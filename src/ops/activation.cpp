#include "quire/activation.h"

#include <algorithm>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "core/scale_arguments.h"
#include "cpu/activation.h"
#include "cuda/activation.h"

namespace quire {
namespace {

using check::Arg;
using kernels::Activation;
using kernels::ActivationParams;
using kernels::kScaleGroup;

void check_tensors(const Arg& input, const Arg& out) {
  check::rank_at_least(input, 1);
  check::memory(input);
  check::dtype(input, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(input);
  const int last = input.tensor.rank - 1;
  check::rank(out, input.tensor.rank);
  for (int d = 0; d < last; ++d) check::dim(out, d, input.tensor.shape[d], "as in input");
  check::last_dim_contiguous(out);
  check::device(out, input);
  check::memory(out, true);
  check::dim(input, last, 2 * out.tensor.shape[last], "twice the last dimension of out");
}

void check_group_scales(const Arg& scales, const Arg& out) {
  const int last = out.tensor.rank - 1;
  if (out.tensor.shape[last] % kScaleGroup != 0) {
    check::fail(out.op, out.name, std::to_string(out.tensor.shape[last]) + " elements a row",
                "a multiple of " + std::to_string(kScaleGroup) + ", for computed scales");
  }
  check::rank(scales, out.tensor.rank);
  for (int d = 0; d < last; ++d) check::dim(scales, d, out.tensor.shape[d], "as in out");
  check::dim(scales, last, out.tensor.shape[last] / kScaleGroup, "groups of 128 in out");
}

// Leading dimensions of all tensors, with neighbours that lie evenly in all merged into one.
// `scales` may be null.
void fill_leading_dims(ActivationParams& p, const Arg& input, const Arg& out,
                       const TensorView* scales) {
  for (int d = 0; d + 1 < input.tensor.rank; ++d) {
    const std::int64_t size = input.tensor.shape[d];
    if (size == 1) continue;
    const std::int64_t input_stride = input.tensor.strides[d], out_stride = out.tensor.strides[d];
    const std::int64_t scale_stride = scales != nullptr ? scales->strides[d] : 0;
    const int last = p.num_leading_dims - 1;
    if (last >= 0 && p.input_strides[last] == input_stride * size &&
        p.out_strides[last] == out_stride * size && p.scale_strides[last] == scale_stride * size) {
      p.leading_shape[last] = rows::count(input, p.leading_shape[last] * size, "rows");
    } else {
      p.leading_shape[last + 1] = rows::count(input, size, "rows");
      ++p.num_leading_dims;
    }
    p.input_strides[p.num_leading_dims - 1] = input_stride;
    p.out_strides[p.num_leading_dims - 1] = out_stride;
    p.scale_strides[p.num_leading_dims - 1] = scale_stride;
  }
  std::int64_t total = 1;
  for (int d = 0; d < p.num_leading_dims; ++d) {
    total = rows::count(input, total * p.leading_shape[d], "rows");
  }
  p.rows = static_cast<std::int32_t>(total);
}

// scale: null unless out is fp8.
void run(const char* op, Activation activation, const TensorView& input, const TensorView& out,
         const Fp8Scale* scale, Stream stream) {
  const Arg input_arg{op, "input", input}, out_arg{op, "out", out};
  check_tensors(input_arg, out_arg);
  check::ScaleParams scaling;
  if (scale == nullptr) {
    check::dtype(out_arg, {input.dtype});
  } else {
    scaling = check::fp8_scale(out_arg, *scale);
  }
  const TensorView* scales = scaling.computed != nullptr ? &scale->tensor() : nullptr;
  if (scales != nullptr) check_group_scales({op, "scales", *scales}, out_arg);
  if (out.numel() == 0) return;

  ActivationParams p{};
  p.input = input.data;
  p.out = out.data;
  p.hidden = rows::count(out_arg, out.shape[out.rank - 1], "elements a row");
  fill_leading_dims(p, input_arg, out_arg, scales);
  p.given_scale = scaling.given;
  p.scale_value = scaling.value;
  p.computed_scales = scaling.computed;
  p.power_of_two = scaling.power_of_two;
  p.scale_group_stride = scales != nullptr ? rows::step(*scales, scales->rank - 1) : 0;
  const kernels::ActivationConfig config{.activation = activation,
                                         .dtype = check::to_kernel(input.dtype),
                                         .out_dtype = check::to_kernel(out.dtype),
                                         .scaling = scaling.scaling};
  dispatch(
      op, input.device, [&] { cpu::activate_and_mul(config, p); },
      [&] { cuda::activate_and_mul(op, config, p, input.device.index, stream); });
}

}  // namespace

void silu_and_mul(const TensorView& input, const TensorView& out, Stream stream) {
  run("silu_and_mul", Activation::silu, input, out, nullptr, stream);
}

void gelu_and_mul(const TensorView& input, const TensorView& out, Stream stream) {
  run("gelu_and_mul", Activation::gelu, input, out, nullptr, stream);
}

void gelu_tanh_and_mul(const TensorView& input, const TensorView& out, Stream stream) {
  run("gelu_tanh_and_mul", Activation::gelu_tanh, input, out, nullptr, stream);
}

void silu_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                        Stream stream) {
  run("silu_and_mul_quant", Activation::silu, input, out, &scale, stream);
}

void gelu_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                        Stream stream) {
  run("gelu_and_mul_quant", Activation::gelu, input, out, &scale, stream);
}

void gelu_tanh_and_mul_quant(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                             Stream stream) {
  run("gelu_tanh_and_mul_quant", Activation::gelu_tanh, input, out, &scale, stream);
}

}  // namespace quire
