// A tensor that owns its memory.
#pragma once

#include <span>
#include <vector>

#include "quire/quire.h"

namespace tinyllama {

class DeviceTensor {
 public:
  DeviceTensor() = default;
  DeviceTensor(std::initializer_list<std::int64_t> shape, quire::DType dtype, quire::Device device)
      : view_(quire::TensorView::contiguous(nullptr, dtype, shape, device)),
        buffer_(static_cast<std::size_t>(view_.numel()) * quire::size_bytes(dtype), device) {
    view_.data = buffer_.data();
  }

  operator const quire::TensorView&() const { return view_; }
  const quire::TensorView& view() const { return view_; }
  // The first `count` rows.
  quire::TensorView rows(std::int64_t count) const { return view_.slice(0, 0, count); }

  // Overwrites the first values.size() elements of a vector and returns them. T is the dtype's.
  template <class T>
  quire::TensorView upload(std::span<const T> values, quire::Stream stream = {}) const {
    quire::copy(buffer_.data(), buffer_.device(), values.data(), quire::kCpu, values.size_bytes(),
                stream);
    return rows(static_cast<std::int64_t>(values.size()));
  }

 private:
  quire::TensorView view_;
  quire::Buffer buffer_;
};

// A view of host integers; the vector must outlive it.
inline quire::TensorView host_view(const std::vector<std::int32_t>& values) {
  return quire::TensorView::contiguous(const_cast<std::int32_t*>(values.data()), quire::DType::i32,
                                       {static_cast<std::int64_t>(values.size())});
}

}  // namespace tinyllama
