#include "core/scale_arguments.h"

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

}  // namespace quire::check
