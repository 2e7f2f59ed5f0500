// Memory of the fake devices is host memory of exactly the size asked for, so that the address
// sanitizer sees every access outside.
#include "emulator/fake_driver.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

#include "emulator/device_state.h"

namespace quire::emulator {
namespace {

using cuda::Context;
using cuda::DevicePtr;
using cuda::Result;
using cuda::StreamHandle;

constexpr std::size_t kAlignmentBytes = 256;
constexpr unsigned char kPoison = 0xff;  // fresh memory is NaN

void* host(DevicePtr address) { return reinterpret_cast<void*>(address); }

Result mem_alloc(DevicePtr* address, std::size_t bytes) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  FakeDevice* device = current_device();
  if (device == nullptr) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  if (bytes > kMemoryBytes - device->used_bytes) return kOutOfMemory;
  void* data = nullptr;
  if (posix_memalign(&data, kAlignmentBytes, bytes) != 0) return kOutOfMemory;
  std::memset(data, kPoison, bytes);
  device->used_bytes += bytes;
  *address = reinterpret_cast<DevicePtr>(data);
  state.allocations[*address] = {bytes, device};
  return kSuccess;
}

Result mem_free(DevicePtr address) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  const auto found = state.allocations.find(address);
  if (found == state.allocations.end()) return kInvalidValue;
  found->second.device->used_bytes -= found->second.bytes;
  state.allocations.erase(found);
  std::free(host(address));
  return kSuccess;
}

// Host memory that the device copies from.
Result mem_host_alloc(void** data, std::size_t bytes, unsigned) {
  if (current_device() == nullptr) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  if (posix_memalign(data, kAlignmentBytes, bytes) != 0) return kOutOfMemory;
  std::memset(*data, kPoison, bytes);
  return kSuccess;
}

Result mem_free_host(void* data) {
  std::free(data);
  return kSuccess;
}

// Device memory must be whole and belong to the current device, and so must the stream: a library
// that relies on more works on some machines only.
Result check_range(DeviceState& state, const char* call, DevicePtr begin, std::size_t bytes,
                   StreamHandle stream) {
  if (current_device() == nullptr) return kInvalidContext;
  if (!stream_is_current(state, stream)) return kInvalidHandle;
  const auto allocation = state.find(begin, bytes);
  if (!allocation) {
    return state.fail(kInvalidValue, fmt::format("{}: {} bytes at {:#x} are not device memory",
                                                 call, bytes, begin));
  }
  if (allocation->device != current_device()) {
    return state.fail(kInvalidValue,
                      fmt::format("{}: memory of device {} while device {} is current", call,
                                  allocation->device->ordinal, current_device()->ordinal));
  }
  return kSuccess;
}

Result memcpy_htod(DevicePtr dst, const void* src, std::size_t bytes, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (const Result r = check_range(state, "memcpy_htod", dst, bytes, stream)) return r;
  std::memcpy(host(dst), src, bytes);
  return kSuccess;
}

Result memcpy_dtoh(void* dst, DevicePtr src, std::size_t bytes, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (const Result r = check_range(state, "memcpy_dtoh", src, bytes, stream)) return r;
  std::memcpy(dst, host(src), bytes);
  return kSuccess;
}

Result memcpy_dtod(DevicePtr dst, DevicePtr src, std::size_t bytes, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (const Result r = check_range(state, "memcpy_dtod", dst, bytes, stream)) return r;
  if (const Result r = check_range(state, "memcpy_dtod", src, bytes, stream)) return r;
  std::memmove(host(dst), host(src), bytes);
  return kSuccess;
}

Result memcpy_peer(DevicePtr dst, Context dst_context, DevicePtr src, Context src_context,
                   std::size_t bytes, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (!stream_is_current(state, stream)) return kInvalidHandle;
  const auto to = state.find(dst, bytes), from = state.find(src, bytes);
  if (!to || !from || to->device != dst_context || from->device != src_context) {
    return state.fail(kInvalidValue, "memcpy_peer: memory that is not of the context given");
  }
  std::memmove(host(dst), host(src), bytes);
  return kSuccess;
}

Result memset_d8(DevicePtr dst, unsigned char value, std::size_t bytes, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (const Result r = check_range(state, "memset_d8", dst, bytes, stream)) return r;
  std::memset(host(dst), value, bytes);
  return kSuccess;
}

}  // namespace

std::optional<Allocation> DeviceState::find(DevicePtr begin, std::size_t bytes) const {
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return std::nullopt;
  const auto& [address, allocation] = *--next;
  const std::size_t offset = begin - address;
  if (offset > allocation.bytes || bytes > allocation.bytes - offset) return std::nullopt;
  return allocation;
}

void add_memory_calls(cuda::DriverTable& table) {
  table.mem_alloc = mem_alloc;
  table.mem_free = mem_free;
  table.mem_host_alloc = mem_host_alloc;
  table.mem_free_host = mem_free_host;
  table.memcpy_htod_async = memcpy_htod;
  table.memcpy_dtoh_async = memcpy_dtoh;
  table.memcpy_dtod_async = memcpy_dtod;
  table.memcpy_peer_async = memcpy_peer;
  table.memset_d8_async = memset_d8;
}

}  // namespace quire::emulator
