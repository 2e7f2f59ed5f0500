#include "jit/recording_driver.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

namespace quire::test {
namespace {

using namespace quire::cuda;

constexpr Result kInvalidDevice = 101;
constexpr std::size_t kForeign = 99;

RecordingState g_state;
std::mutex g_mutex;
thread_local Context t_current = nullptr;

Result record(const std::string& call) {
  const std::lock_guard lock(g_mutex);
  g_state.calls.push_back(
      fmt::format("{} in context {}", call, reinterpret_cast<std::size_t>(t_current)));
  const auto failure = g_state.failures.find(call);
  return failure == g_state.failures.end() ? 0 : failure->second;
}

Result name_of_error(Result error, const char** text) {
  *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FOR_TESTS";
  return 0;
}

Result attribute_of(int* value, int attribute, DeviceHandle) {
  const std::map<int, int> kValues = {{kMaxSharedMemoryPerBlockOptin, 232448},
                                      {kMaxSharedMemoryPerMultiprocessor, 233472},
                                      {kMultiprocessorCount, 132},
                                      {kMemoryClockRate, 2'619'000},
                                      {kMemoryBusWidth, 5120},
                                      {kComputeCapabilityMajor, g_state.compute_major},
                                      {kComputeCapabilityMinor, g_state.compute_minor},
                                      {kL2CacheSize, 50 << 20}};
  *value = kValues.at(attribute);
  return 0;
}

Result load_module(Module* module, const void* image) {
  if (const Result result = record("cuModuleLoadData")) return result;
  const std::lock_guard lock(g_mutex);
  g_state.images.emplace_back(static_cast<const char*>(image));
  *module = reinterpret_cast<Module>(g_state.images.size());
  return 0;
}

Result get_function(Function* function, Module, const char* name) {
  if (const Result result = record("cuModuleGetFunction")) return result;
  static std::set<std::string> names;  // a function is its name, and lives for the process
  const std::lock_guard lock(g_mutex);
  *function = const_cast<char*>(names.insert(name).first->c_str());
  return 0;
}

Result launch_kernel(const LaunchConfig* config, Function function, void**, void**) {
  if (const Result result = record("cuLaunchKernelEx")) return result;
  const std::lock_guard lock(g_mutex);
  bool starts_early = false;
  for (unsigned i = 0; i < config->num_attributes; ++i) {
    const LaunchAttribute& attribute = config->attributes[i];
    starts_early |= attribute.id == kProgrammaticStreamSerialization && attribute.value[0] == 1;
  }
  g_state.launches.push_back({static_cast<const char*>(function), t_current, config->stream,
                              config->grid_x, config->grid_y, config->block_x, config->smem_bytes,
                              starts_early});
  return 0;
}

void fill_devices(DriverTable& t) {
  t.driver_get_version = [](int* version) { return *version = g_state.driver_version, 0; };
  t.get_error_name = name_of_error;
  t.get_error_string = name_of_error;
  t.device_get_count = [](int* count) { return *count = g_state.num_devices, 0; };
  t.device_get = [](DeviceHandle* device, int ordinal) {
    if (ordinal >= g_state.num_devices) return kInvalidDevice;
    return *device = ordinal, 0;
  };
  t.device_get_name = [](char* name, int length, DeviceHandle) {
    return std::strncpy(name, "Recorder", static_cast<std::size_t>(length)), 0;
  };
  t.device_get_attribute = attribute_of;
  t.primary_ctx_retain = [](Context* context, DeviceHandle device) {
    return *context = recorded_context(device), record("cuDevicePrimaryCtxRetain");
  };
  t.ctx_get_current = [](Context* context) { return *context = t_current, 0; };
  t.ctx_set_current = [](Context context) { return t_current = context, 0; };
}

void fill_memory(DriverTable& t) {
  t.mem_alloc = [](DevicePtr* ptr, std::size_t bytes) {
    if (const Result result = record("cuMemAlloc")) return result;
    return *ptr = reinterpret_cast<DevicePtr>(std::malloc(bytes)), 0;
  };
  t.mem_free = [](DevicePtr ptr) {
    std::free(reinterpret_cast<void*>(ptr));
    return record("cuMemFree");
  };
  t.mem_host_alloc = [](void** data, std::size_t bytes, unsigned) {
    return *data = std::malloc(bytes), record("cuMemHostAlloc");
  };
  t.mem_free_host = [](void* data) { return std::free(data), record("cuMemFreeHost"); };
  t.thread_exchange_stream_capture_mode = [](int*) { return 0; };
  t.stream_is_capturing = [](StreamHandle, int* status) { return *status = 0; };
  t.event_create = [](Event* event, unsigned) { return *event = nullptr, record("cuEventCreate"); };
  t.event_record = [](Event, StreamHandle) { return record("cuEventRecord"); };
  t.event_query = [](Event) { return 0; };
  t.event_synchronize = [](Event) { return record("cuEventSynchronize"); };
  t.event_destroy = [](Event) { return record("cuEventDestroy"); };
  t.memcpy_htod_async = [](DevicePtr dst, const void* src, std::size_t bytes, StreamHandle) {
    std::memcpy(reinterpret_cast<void*>(dst), src, bytes);
    return record("cuMemcpyHtoDAsync");
  };
  t.memcpy_dtoh_async = [](void* dst, DevicePtr src, std::size_t bytes, StreamHandle) {
    std::memcpy(dst, reinterpret_cast<void*>(src), bytes);
    return record("cuMemcpyDtoHAsync");
  };
  t.memcpy_dtod_async = [](DevicePtr dst, DevicePtr src, std::size_t bytes, StreamHandle) {
    std::memcpy(reinterpret_cast<void*>(dst), reinterpret_cast<void*>(src), bytes);
    return record("cuMemcpyDtoDAsync");
  };
  t.memcpy_peer_async = [](DevicePtr dst, Context, DevicePtr src, Context, std::size_t bytes,
                           StreamHandle) {
    std::memcpy(reinterpret_cast<void*>(dst), reinterpret_cast<void*>(src), bytes);
    return record("cuMemcpyPeerAsync");
  };
  t.stream_synchronize = [](StreamHandle) { return record("cuStreamSynchronize"); };
}

void fill_kernels(DriverTable& t) {
  t.module_load_data = load_module;
  t.module_get_function = get_function;
  t.func_set_attribute = [](Function function, int attribute, int value) {
    if (const Result result = record("cuFuncSetAttribute")) return result;
    if (attribute == kFuncMaxDynamicSharedSize) {
      g_state.dynamic_smem_limits[static_cast<const char*>(function)] = value;
    }
    return 0;
  };
  t.launch_kernel = launch_kernel;
  t.occupancy_max_active_blocks = [](int* blocks, Function, int block_size, std::size_t) {
    *blocks = 2048 / block_size;
    return record("cuOccupancyMaxActiveBlocksPerMultiprocessor");
  };
}

const DriverTable& table() {
  static const DriverTable filled = [] {
    DriverTable t{};
    fill_devices(t);
    fill_memory(t);
    fill_kernels(t);
    return t;
  }();
  return filled;
}

}  // namespace

RecordingDriver::RecordingDriver() {
  g_state = {};
  t_current = nullptr;
  replace_driver_for_testing(&table());
}

RecordingDriver::~RecordingDriver() { replace_driver_for_testing(nullptr); }

RecordingState& RecordingDriver::state() { return g_state; }

Context recorded_context(int index) {
  return reinterpret_cast<Context>(static_cast<std::size_t>(index) + 1);
}
Context foreign_context() { return reinterpret_cast<Context>(kForeign); }
Context current_context() { return t_current; }
void set_current_context(Context context) { t_current = context; }

}  // namespace quire::test
