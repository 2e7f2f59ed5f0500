#include "support/test_tensor.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>

#include "core/numeric.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

constexpr std::size_t kGuardBytes = 256;  // keeps the data aligned as the buffer is
constexpr std::uint8_t kGuard = 0xc3;
constexpr std::uint8_t kPoison = 0xff;  // NaN in every floating-point dtype, -1 in the integers

std::int64_t product(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return n;
}

void store(std::uint8_t* data, DType dtype, std::int64_t index, double value) {
  switch (dtype) {
    case DType::i32: {
      const auto x = static_cast<std::int32_t>(value);
      std::memcpy(data + index * 4, &x, 4);
      return;
    }
    case DType::i64: {
      const auto x = static_cast<std::int64_t>(value);
      std::memcpy(data + index * 8, &x, 8);
      return;
    }
    case DType::u8:
    case DType::boolean:
      data[index] = static_cast<std::uint8_t>(value);
      return;
    default:
      numeric::store(data, dtype, index, static_cast<float>(value));
  }
}

double load(const std::uint8_t* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::i32: {
      std::int32_t x;
      std::memcpy(&x, data + index * 4, 4);
      return x;
    }
    case DType::i64: {
      std::int64_t x;
      std::memcpy(&x, data + index * 8, 8);
      return static_cast<double>(x);
    }
    case DType::u8:
    case DType::boolean:
      return data[index];
    default:
      return numeric::load(data, dtype, index);
  }
}

}  // namespace

TestTensor::TestTensor(const Shape& shape, DType dtype, Device device) {
  const std::size_t bytes = static_cast<std::size_t>(product(shape)) * size_bytes(dtype);
  std::vector<std::uint8_t> host(bytes + 2 * kGuardBytes, kGuard);
  std::memset(host.data() + kGuardBytes, kPoison, bytes);
  buffer_ = Buffer(host.size(), device);
  copy(buffer_.data(), device, host.data(), kCpu, host.size());
  view_ = TensorView::contiguous(static_cast<std::uint8_t*>(buffer_.data()) + kGuardBytes, dtype,
                                 std::span(shape), device);
}

TestTensor TestTensor::from(const std::vector<double>& values, const Shape& shape, DType dtype,
                            Device device) {
  TestTensor result(shape, dtype, device);
  if (static_cast<std::int64_t>(values.size()) != product(shape)) {
    throw std::invalid_argument("TestTensor::from: as many values as the shape has elements");
  }
  std::vector<std::uint8_t> host(values.size() * size_bytes(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) store(host.data(), dtype, i, values[i]);
  copy(result.view_.data, device, host.data(), kCpu, host.size());
  return result;
}

TestTensor TestTensor::from(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return from(values, shape, dtype, test_device());
}

TestTensor TestTensor::random(const Shape& shape, DType dtype, std::uint64_t seed, double scale,
                              Device device) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<std::size_t>(product(shape)));
  for (double& x : values) x = normal(engine) * scale;
  return from(values, shape, dtype, device);
}

TestTensor TestTensor::random(const Shape& shape, DType dtype, std::uint64_t seed, double scale) {
  return random(shape, dtype, seed, scale, test_device());
}

TestTensor TestTensor::ints(const std::vector<std::int32_t>& values, Device device) {
  return from({values.begin(), values.end()}, {static_cast<std::int64_t>(values.size())},
              DType::i32, device);
}

TestTensor TestTensor::ints(const std::vector<std::int32_t>& values) {
  return ints(values, test_device());
}

TestTensor TestTensor::bytes(const std::vector<std::uint8_t>& values) {
  return from({values.begin(), values.end()}, {static_cast<std::int64_t>(values.size())},
              DType::u8);
}

TestTensor TestTensor::poisoned(const Shape& shape, DType dtype) {
  return TestTensor(shape, dtype, test_device());
}

std::vector<std::uint8_t> TestTensor::raw() const {
  std::vector<std::uint8_t> host(static_cast<std::size_t>(view_.numel()) * size_bytes(view_.dtype));
  copy(host.data(), kCpu, view_.data, view_.device, host.size());
  return host;
}

std::vector<double> TestTensor::values() const {
  const std::vector<std::uint8_t> host = raw();
  std::vector<double> result(static_cast<std::size_t>(view_.numel()));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = load(host.data(), view_.dtype, i);
  return result;
}

bool TestTensor::guards_intact() const {
  std::vector<std::uint8_t> host(buffer_.size_bytes());
  copy(host.data(), kCpu, buffer_.data(), buffer_.device(), host.size());
  for (std::size_t i = 0; i < kGuardBytes; ++i) {
    if (host[i] != kGuard || host[host.size() - 1 - i] != kGuard) return false;
  }
  return true;
}

double relative_error(const std::vector<double>& out, const std::vector<double>& ref) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (out.size() != ref.size()) return kInfinity;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::isnan(out[i]) || std::isnan(ref[i])) return kInfinity;
    if (std::isinf(out[i]) || std::isinf(ref[i])) {
      if (out[i] != ref[i]) return kInfinity;
      continue;
    }
    difference += (out[i] - ref[i]) * (out[i] - ref[i]);
    norm += ref[i] * ref[i];
  }
  if (difference == 0) return 0;
  return norm == 0 ? kInfinity : std::sqrt(difference / norm);
}

}  // namespace quire::test
