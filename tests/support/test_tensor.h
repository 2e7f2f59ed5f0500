// Owning tensors for tests: doubles on the host, rounded to a dtype, on the device under test,
// with guard bytes before and after that tell whether somebody wrote outside.
#pragma once

#include <cstdint>
#include <vector>

#include "quire/tensor.h"

namespace quire::test {

using Shape = std::vector<std::int64_t>;

class TestTensor {
 public:
  TestTensor(const Shape& shape, DType dtype, Device device);  // poisoned: NaN, or -1 for integers

  // Normal values * scale, the same for the same seed.
  static TestTensor random(const Shape& shape, DType dtype, std::uint64_t seed, double scale = 1);
  static TestTensor random(const Shape& shape, DType dtype, std::uint64_t seed, double scale,
                           Device device);
  static TestTensor from(const std::vector<double>& values, const Shape& shape, DType dtype);
  static TestTensor from(const std::vector<double>& values, const Shape& shape, DType dtype,
                         Device device);
  static TestTensor ints(const std::vector<std::int32_t>& values);  // i32 [n]
  static TestTensor ints(const std::vector<std::int32_t>& values, Device device);
  static TestTensor bytes(const std::vector<std::uint8_t>& values);  // u8 [n]
  static TestTensor poisoned(const Shape& shape, DType dtype);

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }
  std::vector<double> values() const;     // downloaded; row-major
  std::vector<std::uint8_t> raw() const;  // downloaded bytes
  bool guards_intact() const;

 private:
  Buffer buffer_;
  TensorView view_;
};

// ||out - ref|| / ||ref|| (Frobenius); infinite when a value is NaN or the infinities do not match.
double relative_error(const std::vector<double>& out, const std::vector<double>& ref);

}  // namespace quire::test
