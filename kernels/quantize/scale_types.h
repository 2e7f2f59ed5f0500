// Scales of fp8 outputs, as host and device compute them.
#pragma once

#include "dtype.h"

namespace quire::kernels {

enum class Scaling : u8 {
  none,      // the output is not fp8
  given,     // one scale of the whole tensor is read
  computed,  // from the largest magnitude of a row or group, and written
};

constexpr const char* literal(Scaling s) {
  switch (s) {
    case Scaling::none:
      return "Scaling::none";
    case Scaling::given:
      return "Scaling::given";
    case Scaling::computed:
      return "Scaling::computed";
  }
  return "";
}

// The largest finite magnitude of an fp8 format.
constexpr float fp8_max(DType dtype) { return dtype == DType::f8e5m2 ? 57344.f : 448.f; }

// The scale that brings magnitudes up to amax into range; never 0, so that zeros stay zeros.
// power_of_two: the next one above (ue8m0, the OCP microscaling formats).
constexpr float fp8_scale(float amax, DType dtype, bool power_of_two = false) {
  constexpr float kMinAmax = 1e-10f;
  const float scale = (amax > kMinAmax ? amax : kMinAmax) / fp8_max(dtype);
  if (!power_of_two) return scale;
  return __builtin_bit_cast(float, (__builtin_bit_cast(u32, scale) + 0x7fffffu) & 0x7f800000u);
}

}  // namespace quire::kernels
