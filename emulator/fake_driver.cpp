#include "emulator/fake_driver.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "emulator/device_state.h"

namespace quire::emulator {
namespace {

using cuda::Context;
using cuda::DeviceHandle;
using cuda::Event;
using cuda::Result;
using cuda::StreamHandle;

constexpr int kNumSms = 4;  // few, so that tiny problems still fill the device

Result init(unsigned) { return kSuccess; }

Result driver_get_version(int* version) {
  *version = 13000;
  return kSuccess;
}

Result get_error_name(Result error, const char** text) {
  switch (error) {
    case kSuccess:
      *text = "CUDA_SUCCESS";
      break;
    case kInvalidValue:
      *text = "CUDA_ERROR_INVALID_VALUE";
      break;
    case kOutOfMemory:
      *text = "CUDA_ERROR_OUT_OF_MEMORY";
      break;
    case kInvalidDevice:
      *text = "CUDA_ERROR_INVALID_DEVICE";
      break;
    case kInvalidImage:
      *text = "CUDA_ERROR_INVALID_IMAGE";
      break;
    case kInvalidContext:
      *text = "CUDA_ERROR_INVALID_CONTEXT";
      break;
    case kInvalidHandle:
      *text = "CUDA_ERROR_INVALID_HANDLE";
      break;
    case kNotFound:
      *text = "CUDA_ERROR_NOT_FOUND";
      break;
    case kIllegalAddress:
      *text = "CUDA_ERROR_ILLEGAL_ADDRESS";
      break;
    case kLaunchFailed:
      *text = "CUDA_ERROR_LAUNCH_FAILED";
      break;
    default:
      *text = "CUDA_ERROR_UNKNOWN";
  }
  return kSuccess;
}

Result get_error_string(Result error, const char** text) {
  const std::string& fault = device_state().fault;
  if (fault.empty()) return get_error_name(error, text);
  *text = fault.c_str();
  return kSuccess;
}

Result device_get_count(int* count) {
  *count = static_cast<int>(device_state().devices.size());
  return kSuccess;
}

bool exists(DeviceHandle device) {
  return device >= 0 && device < static_cast<int>(device_state().devices.size());
}

Result device_get(DeviceHandle* device, int ordinal) {
  if (!exists(ordinal)) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

Result device_get_name(char* name, int length, DeviceHandle device) {
  if (!exists(device)) return kInvalidDevice;
  std::snprintf(name, static_cast<std::size_t>(length), "Emulated GPU %d", device);
  return kSuccess;
}

Result device_get_attribute(int* value, int attribute, DeviceHandle device) {
  if (!exists(device)) return kInvalidDevice;
  const FakeArch& arch = device_state().arch;
  switch (attribute) {
    case cuda::kMaxSharedMemoryPerBlockOptin:
      *value = arch.max_smem_per_block;
      return kSuccess;
    case cuda::kMaxSharedMemoryPerMultiprocessor:
      *value = arch.smem_per_sm;
      return kSuccess;
    case cuda::kMultiprocessorCount:
      *value = kNumSms;
      return kSuccess;
    case cuda::kComputeCapabilityMajor:
      *value = arch.capability / 10;
      return kSuccess;
    case cuda::kComputeCapabilityMinor:
      *value = arch.capability % 10;
      return kSuccess;
    case cuda::kMemoryClockRate:
    case cuda::kMemoryBusWidth:
      *value = 0;
      return kSuccess;
    case cuda::kL2CacheSize:
      *value = 4 << 20;
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

Result device_total_mem(std::size_t* bytes, DeviceHandle device) {
  if (!exists(device)) return kInvalidDevice;
  *bytes = kMemoryBytes;
  return kSuccess;
}

Result primary_ctx_retain(Context* context, DeviceHandle device) {
  if (!exists(device)) return kInvalidDevice;
  *context = device_state().devices[static_cast<std::size_t>(device)].get();
  return kSuccess;
}

Result primary_ctx_release(DeviceHandle device) {
  return exists(device) ? kSuccess : kInvalidDevice;
}

Result ctx_get_current(Context* context) {
  *context = current_device();
  return kSuccess;
}

Result ctx_set_current(Context context) {
  const auto& devices = device_state().devices;
  const auto is_context = [&](const auto& device) { return device.get() == context; };
  if (context != nullptr && std::ranges::none_of(devices, is_context)) return kInvalidContext;
  current_device() = static_cast<FakeDevice*>(context);
  return kSuccess;
}

Result ctx_synchronize() { return current_device() != nullptr ? kSuccess : kInvalidContext; }

Result stream_create(StreamHandle* stream, unsigned) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (current_device() == nullptr) return kInvalidContext;
  auto created = std::make_unique<FakeStream>(FakeStream{current_device()});
  *stream = created.get();
  state.streams[*stream] = std::move(created);
  return kSuccess;
}

Result stream_destroy(StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  return state.streams.erase(stream) == 1 ? kSuccess : kInvalidHandle;
}

Result stream_synchronize(StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  return stream_is_current(state, stream) ? kSuccess : kInvalidHandle;
}

Result stream_is_capturing(StreamHandle, int* status) {
  *status = 0;
  return kSuccess;
}

Result thread_exchange_stream_capture_mode(int* mode) {
  thread_local int current = 0;
  std::swap(current, *mode);
  return kSuccess;
}

Result event_create(Event* event, unsigned) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  auto created = std::make_unique<FakeEvent>();
  *event = created.get();
  state.events[*event] = std::move(created);
  return kSuccess;
}

Result event_destroy(Event event) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  return state.events.erase(event) == 1 ? kSuccess : kInvalidHandle;
}

Result event_record(Event event, StreamHandle stream) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (!stream_is_current(state, stream) || !state.events.contains(event)) return kInvalidHandle;
  state.events[event]->time = std::chrono::steady_clock::now();
  return kSuccess;
}

Result event_synchronize(Event event) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  return state.events.contains(event) ? kSuccess : kInvalidHandle;
}

// Work is done when the call that asks for it returns.
Result event_query(Event event) { return event_synchronize(event); }

Result event_elapsed_time(float* milliseconds, Event start, Event end) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (!state.events.contains(start) || !state.events.contains(end)) return kInvalidHandle;
  const auto elapsed = state.events[end]->time - state.events[start]->time;
  *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count();
  return kSuccess;
}

cuda::DriverTable make_table() {
  cuda::DriverTable table{};
  table.init = init;
  table.driver_get_version = driver_get_version;
  table.get_error_name = get_error_name;
  table.get_error_string = get_error_string;
  table.device_get_count = device_get_count;
  table.device_get = device_get;
  table.device_get_name = device_get_name;
  table.device_get_attribute = device_get_attribute;
  table.device_total_mem = device_total_mem;
  table.primary_ctx_retain = primary_ctx_retain;
  table.primary_ctx_release = primary_ctx_release;
  table.ctx_get_current = ctx_get_current;
  table.ctx_set_current = ctx_set_current;
  table.ctx_synchronize = ctx_synchronize;
  table.stream_create = stream_create;
  table.stream_destroy = stream_destroy;
  table.stream_synchronize = stream_synchronize;
  table.stream_is_capturing = stream_is_capturing;
  table.thread_exchange_stream_capture_mode = thread_exchange_stream_capture_mode;
  table.event_create = event_create;
  table.event_destroy = event_destroy;
  table.event_record = event_record;
  table.event_query = event_query;
  table.event_synchronize = event_synchronize;
  table.event_elapsed_time = event_elapsed_time;
  add_memory_calls(table);
  add_module_calls(table);
  add_tensor_map_calls(table);
  return table;
}

}  // namespace

DeviceState& device_state() {
  static auto& state = *new DeviceState;  // buffers may be freed after static destructors
  return state;
}

FakeDevice*& current_device() {
  thread_local FakeDevice* device = nullptr;
  return device;
}

bool stream_is_current(const DeviceState& state, StreamHandle stream) {
  if (current_device() == nullptr) return false;
  if (stream == nullptr) return true;
  const auto found = state.streams.find(stream);
  return found != state.streams.end() && found->second->device == current_device();
}

const cuda::DriverTable& make_fake_driver(int num_devices, const FakeArch& arch) {
  static const cuda::DriverTable table = make_table();
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  current_device() = nullptr;
  state.arch = arch;
  // Old devices are kept: memory, streams and modules still point to theirs.
  static auto& retired = *new std::vector<std::unique_ptr<FakeDevice>>;
  for (auto& device : state.devices) retired.push_back(std::move(device));
  state.devices.clear();
  for (int i = 0; i < num_devices; ++i) {
    state.devices.push_back(std::make_unique<FakeDevice>(FakeDevice{.ordinal = i}));
  }
  return table;
}

}  // namespace quire::emulator
