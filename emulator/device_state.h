// The fake devices: contexts, memory, streams and modules, and which device each belongs to.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "emulator/kernel_module.h"

namespace quire::emulator {

// Error codes of the driver API that the fake returns.
enum DriverError : cuda::Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidImage = 200,
  kInvalidHandle = 400,
  kNotFound = 500,
  kIllegalAddress = 700,
  kLaunchFailed = 719,
};

struct FakeDevice {
  int ordinal = 0;
  std::size_t used_bytes = 0;
};
struct FakeStream {
  FakeDevice* device = nullptr;
};
struct FakeEvent {
  std::chrono::steady_clock::time_point time{};
};
struct FakeModule {
  FakeDevice* device = nullptr;
  std::unique_ptr<KernelModule> code;
  int max_dynamic_smem_bytes = 48 << 10;  // until it is raised, as on every GPU
};
struct Allocation {
  std::size_t bytes = 0;
  FakeDevice* device = nullptr;
};

inline constexpr std::size_t kMemoryBytes = std::size_t{4} << 30;  // of one device

// What the fake devices are modelled on.
struct FakeArch {
  int capability;  // 80: 8.0
  int max_smem_per_block, smem_per_sm;
};
inline constexpr FakeArch kAmpere{80, 163 << 10, 164 << 10};
inline constexpr FakeArch kHopper{90, 227 << 10, 228 << 10};

// One for the process. Guarded by `mutex`, which a running kernel holds: launches take turns.
struct DeviceState {
  std::mutex mutex;
  FakeArch arch = kAmpere;
  std::vector<std::unique_ptr<FakeDevice>> devices;
  std::map<cuda::DevicePtr, Allocation> allocations;
  std::map<void*, std::unique_ptr<FakeStream>> streams;
  std::map<void*, std::unique_ptr<FakeEvent>> events;
  std::map<void*, std::unique_ptr<FakeModule>> modules;
  std::string fault;  // text of the last kLaunchFailed or kIllegalAddress

  // The allocation that holds [begin, begin + bytes), if there is one.
  std::optional<Allocation> find(cuda::DevicePtr begin, std::size_t bytes) const;
  cuda::Result fail(DriverError error, const std::string& text) {
    fault = text;
    return error;
  }
};

DeviceState& device_state();
FakeDevice*& current_device();  // of this thread; null: no context is current

}  // namespace quire::emulator
