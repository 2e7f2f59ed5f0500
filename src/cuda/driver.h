// The CUDA driver, by dlopen: one table of entry points that tests replace by a fake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace quire::cuda {

// The driver API's own types, by their ABI.
using Result = int;  // CUresult; 0 is success
using DeviceHandle = int;
using Context = void*;
using Module = void*;
using Function = void*;
using StreamHandle = void*;
using Event = void*;
using DevicePtr = std::uint64_t;

struct LaunchAttribute {  // CUlaunchAttribute
  int id;
  alignas(8) int value[16];
};
struct LaunchConfig {  // CUlaunchConfig
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned smem_bytes;
  StreamHandle stream;
  const LaunchAttribute* attributes;
  unsigned num_attributes;
};
// CUlaunchAttributeID, its value 0 or 1: the kernel may start while the one before it in the stream
// ends (tile/launch_order.h).
inline constexpr int kProgrammaticStreamSerialization = 6;

struct DriverTable {
  Result (*init)(unsigned flags);
  Result (*driver_get_version)(int* version);
  Result (*get_error_name)(Result error, const char** text);
  Result (*get_error_string)(Result error, const char** text);
  Result (*device_get_count)(int* count);
  Result (*device_get)(DeviceHandle* device, int ordinal);
  Result (*device_get_name)(char* name, int length, DeviceHandle device);
  Result (*device_get_attribute)(int* value, int attribute, DeviceHandle device);
  Result (*device_total_mem)(std::size_t* bytes, DeviceHandle device);
  Result (*primary_ctx_retain)(Context* context, DeviceHandle device);
  Result (*primary_ctx_release)(DeviceHandle device);
  Result (*ctx_get_current)(Context* context);
  Result (*ctx_set_current)(Context context);
  Result (*ctx_synchronize)();
  Result (*module_load_data)(Module* module, const void* image);
  Result (*module_unload)(Module module);
  Result (*module_get_function)(Function* function, Module module, const char* name);
  Result (*func_get_attribute)(int* value, int attribute, Function function);
  Result (*func_set_attribute)(Function function, int attribute, int value);
  Result (*launch_kernel)(const LaunchConfig* config, Function function, void** params,
                          void** extra);
  Result (*occupancy_max_active_blocks)(int* blocks, Function function, int block_size,
                                        std::size_t dynamic_smem_bytes);
  // Fills 128 bytes (aligned to 64) that describe a tensor and its boxes to the copy engine.
  Result (*tensor_map_encode_tiled)(void* map, int data_type, std::uint32_t rank, void* base,
                                    const std::uint64_t* dims, const std::uint64_t* strides,
                                    const std::uint32_t* box, const std::uint32_t* element_strides,
                                    int interleave, int swizzle, int l2_promotion, int fill);
  Result (*mem_alloc)(DevicePtr* ptr, std::size_t bytes);
  Result (*mem_free)(DevicePtr ptr);
  Result (*mem_host_alloc)(void** ptr, std::size_t bytes, unsigned flags);
  Result (*mem_free_host)(void* ptr);
  Result (*memcpy_htod_async)(DevicePtr dst, const void* src, std::size_t bytes, StreamHandle s);
  Result (*memcpy_dtoh_async)(void* dst, DevicePtr src, std::size_t bytes, StreamHandle s);
  Result (*memcpy_dtod_async)(DevicePtr dst, DevicePtr src, std::size_t bytes, StreamHandle s);
  Result (*memcpy_peer_async)(DevicePtr dst, Context dst_context, DevicePtr src,
                              Context src_context, std::size_t bytes, StreamHandle s);
  Result (*memset_d8_async)(DevicePtr dst, unsigned char value, std::size_t bytes, StreamHandle s);
  Result (*stream_create)(StreamHandle* stream, unsigned flags);
  Result (*stream_destroy)(StreamHandle stream);
  Result (*stream_synchronize)(StreamHandle stream);
  Result (*stream_is_capturing)(StreamHandle stream, int* status);
  // *mode becomes the thread's mode, and what the thread's was comes back in it.
  Result (*thread_exchange_stream_capture_mode)(int* mode);
  Result (*event_create)(Event* event, unsigned flags);
  Result (*event_destroy)(Event event);
  Result (*event_record)(Event event, StreamHandle stream);
  Result (*event_query)(Event event);
  Result (*event_synchronize)(Event event);
  Result (*event_elapsed_time)(float* milliseconds, Event start, Event end);
};

// CUdevice_attribute values used here.
enum DeviceAttribute {
  kMaxSharedMemoryPerBlockOptin = 97,
  kMaxSharedMemoryPerMultiprocessor = 81,
  kMultiprocessorCount = 16,
  kMemoryClockRate = 36,  // kHz
  kMemoryBusWidth = 37,   // bits
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kL2CacheSize = 38,
};
inline constexpr int kFuncMaxDynamicSharedSize = 8;
// CUtensorMapDataType, CUtensorMapSwizzle and CUtensorMapL2promotion values used here.
enum TensorMapType {
  kTensorMapU8 = 0,
  kTensorMapU16 = 1,
  kTensorMapF16 = 6,
  kTensorMapF32 = 7,
  kTensorMapBf16 = 9
};
enum TensorMapSwizzle { kNoSwizzle = 0, kSwizzle32 = 1, kSwizzle64 = 2, kSwizzle128 = 3 };
enum TensorMapPromotion { kPromoteNone = 0, kPromote128 = 2 };

// Loads the driver at the first call. Throws Error{device_unavailable} when there is none.
const DriverTable& driver();
bool has_driver() noexcept;
// Tests only. Null puts the real one back. Also forgets loaded kernels and device limits.
void replace_driver_for_testing(const DriverTable* table);
// Changes with every replacement: part of the key of everything remembered of a driver.
int driver_generation() noexcept;

// Throws Error{driver} (out_of_memory for CUDA_ERROR_OUT_OF_MEMORY) naming call and error.
void check(Result result, const char* call);

// The context that the CUDA runtime uses too, retained for the life of the process.
// Throws Error{device_unavailable} for an index that does not exist.
Context primary_context(int device_index);
DeviceHandle device_handle(int device_index);

// Makes the primary context of a device current and restores the caller's at the end, also when
// unwinding. Throws Error{device_unavailable} for an index that does not exist.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device_index);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  Context previous_ = nullptr;
  bool changed_ = false;
};

// What the library must know of a device; read once a device.
struct DeviceLimits {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int num_sms = 0;
  int max_smem_per_block = 0;  // bytes, with opt-in
  int smem_per_sm = 0;         // bytes
  int l2_bytes = 0;
  double memory_bytes_per_s = 0;  // at its clock; 0: not known
  bool has_early_starts = false;  // a kernel may start while the one before it ends
  std::string arch() const;       // NVRTC's name of the best target: "sm_90a", "sm_80", …
  // What each multiprocessor has of the memory's rate, in what it has on an H100 (SXM5), which
  // schedules are fitted to; 1 where the rate is not known.
  double memory_speed() const;
};
const DeviceLimits& device_limits(int device_index);

}  // namespace quire::cuda
