// A strided view into a larger poisoned tensor: rows with unused elements before and behind them,
// which must be neither used nor changed.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {

class PaddedTensor {
 public:
  // `before` and `behind` elements of padding around every run of the last dimension.
  PaddedTensor(const std::vector<double>& values, const Shape& shape, DType dtype,
               std::int64_t before, std::int64_t behind)
      : shape_(shape), before_(before), behind_(behind), whole_(make(values, dtype)) {
    const int last = static_cast<int>(shape.size()) - 1;
    view_ = whole_.view().slice(last, before, before + shape[last]);
    clean_ = whole_.raw();
  }

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }

  // Of the view, row-major.
  std::vector<double> values() const {
    const std::vector<double> all = whole_.values();
    std::vector<double> result;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (is_inside(i)) result.push_back(all[i]);
    }
    return result;
  }

  // Whether everything but the view's elements is as it was at the start.
  bool padding_intact() const {
    const std::vector<std::uint8_t> now = whole_.raw();
    const std::size_t element = size_bytes(view_.dtype);
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (!is_inside(i / element) && now[i] != clean_[i]) return false;
    }
    return whole_.guards_intact();
  }

  // Whether all of it is.
  bool unchanged() const { return whole_.raw() == clean_ && whole_.guards_intact(); }

 private:
  std::int64_t row() const { return before_ + shape_.back() + behind_; }

  bool is_inside(std::size_t i) const {
    const std::int64_t column = static_cast<std::int64_t>(i) % row();
    return column >= before_ && column < before_ + shape_.back();
  }

  // NaN (99 in integers) in the padding, and everywhere when there are no values.
  TestTensor make(const std::vector<double>& values, DType dtype) const {
    Shape whole = shape_;
    whole.back() = row();
    std::size_t n = 1;
    for (const std::int64_t size : whole) n *= static_cast<std::size_t>(size);
    std::vector<double> padded(n, is_integer(dtype) ? 99 : std::nan(""));
    std::size_t next = 0;
    for (std::size_t i = 0; i < n && !values.empty(); ++i) {
      if (is_inside(i)) padded[i] = values.at(next++);
    }
    return TestTensor::from(padded, whole, dtype);
  }

  static bool is_integer(DType dtype) { return dtype >= DType::i32; }

  Shape shape_;
  std::int64_t before_, behind_;
  TestTensor whole_;
  TensorView view_;
  std::vector<std::uint8_t> clean_;
};

// `values` as `dtype` stores them.
inline std::vector<double> rounded(const std::vector<double>& values, DType dtype) {
  return TestTensor::from(values, {static_cast<std::int64_t>(values.size())}, dtype, kCpu).values();
}

inline std::vector<double> random_values(std::size_t n, std::uint64_t seed, double scale = 1) {
  return TestTensor::random({static_cast<std::int64_t>(n)}, DType::f32, seed, scale, kCpu).values();
}

}  // namespace quire::test
