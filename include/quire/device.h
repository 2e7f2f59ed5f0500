// Devices, streams and owning buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

struct Device {
  enum class Type : std::uint8_t { cpu, cuda };
  Type type = Type::cpu;
  int index = 0;

  bool is_cpu() const { return type == Type::cpu; }
  bool is_cuda() const { return type == Type::cuda; }
  bool operator==(const Device&) const = default;
};

inline constexpr Device kCpu{};
inline constexpr Device cuda_device(int index = 0) { return {Device::Type::cuda, index}; }

// "cpu", "cuda" (= "cuda:0") or "cuda:N". Throws invalid_argument for anything else.
Device parse_device(std::string_view text);
std::string to_string(Device device);

// Number of CUDA devices; 0 when there is no driver. Never throws.
int num_cuda_devices() noexcept;

// A CUDA stream handle (CUstream, cudaStream_t). Null is the device's legacy default stream.
// Ignored for CPU tensors: CPU operators have finished when they return.
struct Stream {
  void* handle = nullptr;
};

// Waits until everything enqueued on `stream` of `device` is done. Does nothing for the CPU.
void synchronize(Device device, Stream stream = {});

// Owning, uninitialised memory on one device, aligned to 256 bytes. Movable, not copyable.
class Buffer {
 public:
  Buffer() = default;
  // Throws out_of_memory, device_unavailable.
  Buffer(std::size_t bytes, Device device);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }
  Device device() const { return device_; }

 private:
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  Device device_{};
};

// Copies `bytes` between any two devices, ordered on `stream` of the CUDA side. A copy to or from
// host memory has finished when this returns.
void copy(void* dst, Device dst_device, const void* src, Device src_device, std::size_t bytes,
          Stream stream = {});

}  // namespace quire
