#include "cuda/driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <atomic>
#include <string>

#include "quire/error.h"

namespace quire::cuda {
namespace {

constexpr Result kOutOfMemory = 2;

struct LoadedDriver {
  DriverTable table{};
  std::string trouble;  // empty: the table is complete and initialised
};

// One entry point; `symbol` carries the ABI version that its signature in DriverTable has.
template <class Entry>
void load_entry(void* library, const char* symbol, Entry& entry, std::string& trouble) {
  entry = reinterpret_cast<Entry>(dlsym(library, symbol));
  if (entry == nullptr && trouble.empty()) {
    trouble = fmt::format("libcuda.so.1 has no {}: the driver is too old", symbol);
  }
}

void load_entries(void* library, DriverTable& t, std::string& trouble) {
  const auto load = [&](const char* symbol, auto& entry) {
    load_entry(library, symbol, entry, trouble);
  };
  load("cuInit", t.init);
  load("cuDriverGetVersion", t.driver_get_version);
  load("cuGetErrorName", t.get_error_name);
  load("cuGetErrorString", t.get_error_string);
  load("cuDeviceGetCount", t.device_get_count);
  load("cuDeviceGet", t.device_get);
  load("cuDeviceGetName", t.device_get_name);
  load("cuDeviceGetAttribute", t.device_get_attribute);
  load("cuDeviceTotalMem_v2", t.device_total_mem);
  load("cuDevicePrimaryCtxRetain", t.primary_ctx_retain);
  load("cuDevicePrimaryCtxRelease_v2", t.primary_ctx_release);
  load("cuCtxGetCurrent", t.ctx_get_current);
  load("cuCtxSetCurrent", t.ctx_set_current);
  load("cuCtxSynchronize", t.ctx_synchronize);
  load("cuModuleLoadData", t.module_load_data);
  load("cuModuleUnload", t.module_unload);
  load("cuModuleGetFunction", t.module_get_function);
  load("cuFuncGetAttribute", t.func_get_attribute);
  load("cuFuncSetAttribute", t.func_set_attribute);
  load("cuLaunchKernelEx", t.launch_kernel);
  load("cuOccupancyMaxActiveBlocksPerMultiprocessor", t.occupancy_max_active_blocks);
  load("cuTensorMapEncodeTiled", t.tensor_map_encode_tiled);
  load("cuMemAlloc_v2", t.mem_alloc);
  load("cuMemFree_v2", t.mem_free);
  load("cuMemHostAlloc", t.mem_host_alloc);
  load("cuMemFreeHost", t.mem_free_host);
  load("cuMemcpyHtoDAsync_v2", t.memcpy_htod_async);
  load("cuMemcpyDtoHAsync_v2", t.memcpy_dtoh_async);
  load("cuMemcpyDtoDAsync_v2", t.memcpy_dtod_async);
  load("cuMemcpyPeerAsync", t.memcpy_peer_async);
  load("cuMemsetD8Async", t.memset_d8_async);
  load("cuStreamCreate", t.stream_create);
  load("cuStreamDestroy_v2", t.stream_destroy);
  load("cuStreamSynchronize", t.stream_synchronize);
  load("cuStreamIsCapturing", t.stream_is_capturing);
  load("cuThreadExchangeStreamCaptureMode", t.thread_exchange_stream_capture_mode);
  load("cuEventCreate", t.event_create);
  load("cuEventDestroy_v2", t.event_destroy);
  load("cuEventRecord", t.event_record);
  load("cuEventQuery", t.event_query);
  load("cuEventSynchronize", t.event_synchronize);
  load("cuEventElapsedTime", t.event_elapsed_time);
}

LoadedDriver load_driver() {
  LoadedDriver loaded;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    loaded.trouble = "libcuda.so.1 was not found: install the NVIDIA driver";
    return loaded;
  }
  load_entries(library, loaded.table, loaded.trouble);
  if (!loaded.trouble.empty()) return loaded;
  if (const Result result = loaded.table.init(0); result != 0) {
    const char* name = nullptr;
    loaded.table.get_error_name(result, &name);
    loaded.trouble = fmt::format("cuInit failed with {} ({})", name ? name : "an error", result);
  }
  return loaded;
}

const LoadedDriver& loaded_driver() {
  static const LoadedDriver loaded = load_driver();
  return loaded;
}

std::atomic<const DriverTable*> g_replacement{nullptr};
std::atomic<int> g_generation{0};

}  // namespace

const DriverTable& driver() {
  if (const DriverTable* table = g_replacement.load()) return *table;
  const LoadedDriver& loaded = loaded_driver();
  if (!loaded.trouble.empty()) {
    throw Error(ErrorCode::device_unavailable,
                fmt::format("CUDA: driver: got none, expected a working one: {}", loaded.trouble));
  }
  return loaded.table;
}

bool has_driver() noexcept {
  return g_replacement.load() != nullptr || loaded_driver().trouble.empty();
}

void replace_driver_for_testing(const DriverTable* table) {
  g_replacement.store(table);
  g_generation.fetch_add(1);
}

int driver_generation() noexcept { return g_generation.load(); }

void check(Result result, const char* call) {
  if (result == 0) return;
  const char* name = nullptr;
  const char* text = nullptr;
  driver().get_error_name(result, &name);
  driver().get_error_string(result, &text);
  throw Error(result == kOutOfMemory ? ErrorCode::out_of_memory : ErrorCode::driver,
              fmt::format("{}: result: got {} ({}: {}), expected success", call, result,
                          name ? name : "unknown error", text ? text : "no description"));
}

}  // namespace quire::cuda
