#include "quire/device.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/backend.h"
#include "cuda/memory.h"
#include "quire/error.h"

namespace quire {
namespace {

constexpr std::size_t kAlignmentBytes = 256;

void* allocate_host(std::size_t bytes) {
  const std::size_t rounded = (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  void* data = rounded < bytes ? nullptr : std::aligned_alloc(kAlignmentBytes, rounded);
  if (data == nullptr) {
    throw Error(
        ErrorCode::out_of_memory,
        fmt::format("Buffer: size: got {} bytes, expected no more than the host has free", bytes));
  }
  return data;
}

}  // namespace

Device parse_device(std::string_view text) {
  constexpr std::string_view kCuda = "cuda";
  if (text == "cpu") return kCpu;
  if (text == kCuda) return cuda_device(0);
  if (text.starts_with("cuda:")) {
    const std::string_view digits = text.substr(kCuda.size() + 1);
    int index = 0;
    const auto [end, error] = std::from_chars(digits.begin(), digits.end(), index);
    if (error == std::errc{} && end == digits.end() && index >= 0) return cuda_device(index);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("parse_device: text: got \"{}\", expected \"cpu\", \"cuda\" or "
                          "\"cuda:N\"",
                          text));
}

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

int num_cuda_devices() noexcept {
  if constexpr (QUIRE_WITH_CUDA) {
    return cuda::num_devices();
  } else {
    return 0;
  }
}

void synchronize(Device device, Stream stream) {
  dispatch("synchronize", device, [] {}, [&] { cuda::synchronize(device.index, stream); });
}

Buffer::Buffer(std::size_t bytes, Device device) : size_bytes_(bytes), device_(device) {
  if (bytes == 0) return;
  dispatch(
      "Buffer", device, [&] { data_ = allocate_host(bytes); },
      [&] { data_ = cuda::allocate(bytes, device.index); });
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (device_.is_cpu()) {
    std::free(data_);
  } else if constexpr (QUIRE_WITH_CUDA) {
    cuda::free(data_, device_.index);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      device_(other.device_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  Buffer taken(std::move(other));  // what this held is freed at the end of this scope
  std::swap(data_, taken.data_);
  std::swap(size_bytes_, taken.size_bytes_);
  std::swap(device_, taken.device_);
  return *this;
}

void copy(void* dst, Device dst_device, const void* src, Device src_device, std::size_t bytes,
          Stream stream) {
  if (bytes == 0) return;
  if (dst == nullptr || src == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("copy: {}: got a null pointer, expected {} bytes",
                            dst == nullptr ? "dst" : "src", bytes));
  }
  dispatch(
      "copy", dst_device.is_cpu() ? src_device : dst_device, [&] { std::memmove(dst, src, bytes); },
      [&] { cuda::copy(dst, dst_device, src, src_device, bytes, stream); });
}

}  // namespace quire
