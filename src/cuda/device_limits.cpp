#include <fmt/format.h>

#include <map>
#include <mutex>
#include <utility>

#include "cuda/driver.h"

namespace quire::cuda {
namespace {

constexpr double kTransfersPerClock = 2;
constexpr int kEarlyStartsInGraphs = 12030;  // version of the driver that can capture them

DeviceLimits read_limits(int device_index) {
  const DeviceHandle device = device_handle(device_index);
  const auto attribute = [&](DeviceAttribute which) {
    int value = 0;
    check(driver().device_get_attribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
  };
  char name[256] = {};
  check(driver().device_get_name(name, sizeof(name) - 1, device), "cuDeviceGetName");
  int version = 0;
  check(driver().driver_get_version(&version), "cuDriverGetVersion");
  const int major = attribute(kComputeCapabilityMajor);
  return {.name = name,
          .compute_major = major,
          .compute_minor = attribute(kComputeCapabilityMinor),
          .num_sms = attribute(kMultiprocessorCount),
          .max_smem_per_block = attribute(kMaxSharedMemoryPerBlockOptin),
          .smem_per_sm = attribute(kMaxSharedMemoryPerMultiprocessor),
          .l2_bytes = attribute(kL2CacheSize),
          .memory_bytes_per_s = kTransfersPerClock * 1000. * attribute(kMemoryClockRate) *
                                attribute(kMemoryBusWidth) / 8,
          .has_early_starts = major >= 9 && version >= kEarlyStartsInGraphs};
}

}  // namespace

std::string DeviceLimits::arch() const {
  // From compute capability 9.0 on, "a" unlocks instructions of exactly that chip.
  return fmt::format("sm_{}{}{}", compute_major, compute_minor, compute_major >= 9 ? "a" : "");
}

double DeviceLimits::memory_speed() const {
  constexpr double kH100 = 3.352e12 / 132;
  return memory_bytes_per_s > 0 ? memory_bytes_per_s / num_sms / kH100 : 1;
}

const DeviceLimits& device_limits(int device_index) {
  static std::mutex mutex;
  static auto& limits = *new std::map<std::pair<int, int>, DeviceLimits>;
  const std::lock_guard lock(mutex);
  const auto key = std::pair(driver_generation(), device_index);
  if (const auto found = limits.find(key); found != limits.end()) return found->second;
  return limits[key] = read_limits(device_index);
}

}  // namespace quire::cuda
