#include "cuda/memory.h"

#include <fmt/format.h>

#include "core/log.h"
#include "cuda/driver.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

DevicePtr device_ptr(const void* data) { return reinterpret_cast<DevicePtr>(data); }

void copy_between_devices(void* dst, int dst_index, const void* src, int src_index,
                          std::size_t bytes, StreamHandle stream) {
  if (dst_index == src_index) {
    check(driver().memcpy_dtod_async(device_ptr(dst), device_ptr(src), bytes, stream),
          "cuMemcpyDtoDAsync");
    return;
  }
  check(driver().memcpy_peer_async(device_ptr(dst), primary_context(dst_index), device_ptr(src),
                                   primary_context(src_index), bytes, stream),
        "cuMemcpyPeerAsync");
}

}  // namespace

int num_devices() noexcept {
  int count = 0;
  if (!has_driver() || driver().device_get_count(&count) != 0) return 0;
  return count;
}

void* allocate(std::size_t bytes, int device_index) {
  const DeviceGuard guard(device_index);
  DevicePtr data = 0;
  check(driver().mem_alloc(&data, bytes), fmt::format("cuMemAlloc({} bytes)", bytes).c_str());
  return reinterpret_cast<void*>(data);
}

void free(void* data, int device_index) noexcept {
  try {
    const DeviceGuard guard(device_index);
    check(driver().mem_free(device_ptr(data)), "cuMemFree");
  } catch (const Error& error) {
    log::write(log::Level::error, error.what());
  }
}

void synchronize(int device_index, Stream stream) {
  const DeviceGuard guard(device_index);
  check(driver().stream_synchronize(stream.handle), "cuStreamSynchronize");
}

void copy(void* dst, Device dst_device, const void* src, Device src_device, std::size_t bytes,
          Stream stream) {
  const DeviceGuard guard(dst_device.is_cuda() ? dst_device.index : src_device.index);
  if (dst_device.is_cuda() && src_device.is_cuda()) {
    copy_between_devices(dst, dst_device.index, src, src_device.index, bytes, stream.handle);
    return;
  }
  if (dst_device.is_cuda()) {
    check(driver().memcpy_htod_async(device_ptr(dst), src, bytes, stream.handle),
          "cuMemcpyHtoDAsync");
  } else {
    check(driver().memcpy_dtoh_async(dst, device_ptr(src), bytes, stream.handle),
          "cuMemcpyDtoHAsync");
  }
  check(driver().stream_synchronize(stream.handle), "cuStreamSynchronize");
}

void fill_bytes(void* data, unsigned char value, std::size_t bytes, int device_index,
                Stream stream) {
  if (bytes == 0) return;
  const DeviceGuard guard(device_index);
  check(driver().memset_d8_async(device_ptr(data), value, bytes, stream.handle), "cuMemsetD8Async");
}

}  // namespace quire::cuda
