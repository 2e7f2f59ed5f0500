#include "core/scale_arguments.h"

#include <fmt/format.h>

namespace quire::check {

ScaleParams fp8_scale(const Arg& out, const Fp8Scale& scale) {
  dtype(out, {DType::f8e4m3, DType::f8e5m2});
  ScaleParams p;
  p.scaling = kernels::Scaling::given;
  if (scale.kind() == Fp8Scale::Kind::number) {
    finite_positive(out.op, "scale", scale.number());
    p.value = scale.number();
    return p;
  }
  const bool computed = scale.kind() == Fp8Scale::Kind::computed;
  const Arg arg{out.op, computed ? "scales" : "scale", scale.tensor()};
  dtype(arg, {DType::f32});
  device(arg, out);
  memory(arg, computed);
  auto* data = static_cast<float*>(scale.tensor().data);
  if (computed) {
    p.scaling = kernels::Scaling::computed;
    p.computed = data;
    p.power_of_two = scale.power_of_two();
    return p;
  }
  if (scale.tensor().numel() != 1) {
    check::fail(arg.op, arg.name, std::to_string(scale.tensor().numel()) + " elements", "1");
  }
  p.given = data;
  return p;
}

HeadScales head_scales(const Arg& data, std::string_view name, const Fp8Scale& scale,
                       std::int64_t num_heads, bool is_fp8) {
  HeadScales result;
  if (scale.kind() == Fp8Scale::Kind::number) {
    finite_positive(data.op, name, scale.number());
    if (!is_fp8 && scale.number() != 1) {
      check::fail(data.op, name, fmt::format("{}", scale.number()),
                  "1 for a cache that is not converted to fp8");
    }
    result.value = scale.number();
    return result;
  }
  const Arg arg{data.op, name, scale.tensor()};
  if (scale.kind() == Fp8Scale::Kind::computed || !is_fp8) {
    check::fail(data.op, name, is_fp8 ? "computed scales" : "a tensor",
                is_fp8 ? "given ones" : "1 for a cache that is not converted to fp8");
  }
  rank(arg, 1);
  dtype(arg, {DType::f32});
  device(arg, data);
  contiguous(arg);
  memory(arg);
  if (arg.tensor.shape[0] != 1) dim(arg, 0, num_heads, "num_kv_heads, or 1");
  result.data = static_cast<const float*>(arg.tensor.data);
  result.head_stride = arg.tensor.shape[0] == 1 ? 0 : 1;
  return result;
}

}  // namespace quire::check
