// What fp8 outputs must be, against values in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "quire/tensor.h"

namespace quire::test {

inline double fp8_largest(DType dtype) { return dtype == DType::f8e5m2 ? 57344 : 448; }

// Every element of `out` is a nearest fp8 number of value / scale, where values are known to a
// relative error of `slack` and an absolute one; beyond the largest number it is that. scale_of(i):
// of element i.
template <class ScaleOf>
void expect_quantized(const std::vector<double>& out, const std::vector<double>& values,
                      DType dtype, double slack, ScaleOf&& scale_of, double absolute = 1e-9) {
  ASSERT_EQ(out.size(), values.size());
  const double largest = fp8_largest(dtype);
  const double half_step = dtype == DType::f8e5m2 ? 0x1p-3 : 0x1p-4;  // of the value
  const double half_denormal = dtype == DType::f8e5m2 ? 0x1p-17 : 0x1p-10;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double exact = values[i] / scale_of(i);
    const double clamped = std::clamp(exact, -largest, largest);
    // Half the distance of neighbours is at most half_step of the lower one's magnitude.
    const double bound = std::max(std::abs(clamped) * half_step, half_denormal) * (1 + 1e-6) +
                         std::abs(exact) * slack + absolute / scale_of(i);
    if (!(std::abs(out[i] - clamped) <= bound)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << exact;
    }
  }
}

// The computed scale of values[begin, end).
inline double expected_scale(const std::vector<double>& values, std::size_t begin, std::size_t end,
                             DType dtype) {
  double amax = 1e-10;
  for (std::size_t i = begin; i < end; ++i) amax = std::max(amax, std::abs(values[i]));
  return amax / fp8_largest(dtype);
}

}  // namespace quire::test
