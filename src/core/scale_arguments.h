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

// Scales of the heads of a cache that is written.
struct HeadScales {
  const float* data = nullptr;  // or null: value
  int head_stride = 0;          // 0: one scale for all
  float value = 1;
};

// A number, or an f32 tensor [1] or [num_heads] on the device of `data`. Without `is_fp8` nothing
// is converted, and only the number 1 is right.
HeadScales head_scales(const Arg& data, std::string_view name, const Fp8Scale& scale,
                       std::int64_t num_heads, bool is_fp8);

}  // namespace quire::check
