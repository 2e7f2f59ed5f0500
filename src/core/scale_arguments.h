// Checking an Fp8Scale and handing it to a kernel.
#pragma once

#include "core/check.h"
#include "quantize/scale_types.h"
#include "quire/fp8_scale.h"

namespace quire::check {

struct ScaleParams {
  kernels::Scaling scaling = kernels::Scaling::none;
  const float* given = nullptr;  // or null: value
  float value = 1;
  float* computed = nullptr;
  bool power_of_two = false;
};

// out's dtype must be fp8 and a scale that is given fit; a tensor for computed ones is checked for
// dtype, device and memory; its shape and strides are the operator's to check.
ScaleParams fp8_scale(const Arg& out, const Fp8Scale& scale);

}  // namespace quire::check
