#include <algorithm>
#include <cmath>
#include <cstdint>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class FourBitConversions : public PrimitiveTest {};

constexpr double kE2m1Values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

// The nearest code, ties to the even one; beyond the largest, and for NaN, it is that.
std::uint32_t nearest_e2m1(float x) {
  if (std::isnan(x)) return 7;
  const double magnitude = std::min(std::abs(static_cast<double>(x)), kE2m1Values[7]);
  std::uint32_t best = 0;
  for (std::uint32_t code = 1; code < 8; ++code) {
    const double gain =
        std::abs(kE2m1Values[best] - magnitude) - std::abs(kE2m1Values[code] - magnitude);
    if (gain > 0 || (gain == 0 && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(x) ? 8u : 0u);
}

TEST_F(FourBitConversions, FloatsRoundToTheNearestE2m1) {
  std::vector<float> values = {0.f,  -0.f,  1e-40f, -1e-30f,   6.5f,     -7.f, 100.f,
                               1e5f, -1e9f, 1e38f,  -INFINITY, INFINITY, NAN,  -NAN};
  for (int code = 0; code < 7; ++code) {
    const double value = kE2m1Values[code], next = kE2m1Values[code + 1];
    for (const float x : {static_cast<float>(value), static_cast<float>(value / 2 + next / 2)}) {
      for (const float y : {x, std::nextafter(x, -1e9f), std::nextafter(x, 1e9f)}) {
        values.insert(values.end(), {y, -y});
      }
    }
  }
  // Every value in each of the eight places.
  std::vector<double> inputs;
  for (std::size_t place = 0; place < 8; ++place) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      inputs.push_back(2. * values[(i + place) % values.size()]);  // the kernel halves them
    }
    while (inputs.size() % 8 != 0) inputs.push_back(1);
  }
  const auto count = static_cast<int>(inputs.size());
  const TestTensor a = TestTensor::from(inputs, {count}, DType::f32);
  const TestTensor out = TestTensor::poisoned({count / 2}, DType::u8);
  run_primitive({.header = "conversions.cuh",
                 .function = "narrow_e2m1",
                 .params = {.a = a.view().data, .out = out.view().data, .count = count},
                 .threads = 256});
  const std::vector<std::uint8_t> got = out.raw();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto x = static_cast<float>(inputs[i] / 2);
    ASSERT_EQ(got[i / 2] >> (i % 2 * 4) & 15, nearest_e2m1(x)) << x << " at " << i;
  }
}

}  // namespace
}  // namespace quire::test
