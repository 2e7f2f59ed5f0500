#include "cuda/launch.h"

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "core/log.h"
#include "jit/compiler.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

// Everything that tells kernels of this process apart, much cheaper than the cache key.
std::string identity(const jit::KernelSpec& spec, int device_index) {
  std::string text =
      fmt::format("{} {} {} {} {} {}", driver_generation(), device_index, spec.threads_per_block,
                  spec.min_blocks_per_sm, spec.cluster_blocks, spec.dynamic_smem_bytes);
  for (const std::string* field : {&spec.name, &spec.header, &spec.function, &spec.config_type,
                                   &spec.config, &spec.params_type}) {
    text.append(1, '\0').append(*field);
  }
  for (const jit::VirtualHeader& header : spec.extra_headers) {
    text.append(1, '\0').append(header.name).append(1, '\0').append(header.text);
  }
  return text;
}

void check_smem(const jit::KernelSpec& spec, const DeviceLimits& limits, int device_index) {
  if (spec.dynamic_smem_bytes <= static_cast<std::size_t>(limits.max_smem_per_block)) return;
  throw Error(
      ErrorCode::not_implemented,
      fmt::format("{}: shared memory: got {} bytes, expected at most {} on cuda:{} ({})", spec.name,
                  spec.dynamic_smem_bytes, limits.max_smem_per_block, device_index, limits.name));
}

// Results that speak of the image: invalid image, no binary for this GPU, unsupported version.
bool is_refusal(Result result) { return result == 200 || result == 209 || result == 222; }

// Machine code made by a newer compiler than the driver knows fails to load; the compiler of this
// machine may do better.
Module load_module(const jit::KernelSpec& spec, const std::string& arch) {
  Module module = nullptr;
  const std::string image = jit::load_or_compile(spec, arch);
  const Result result = driver().module_load_data(&module, image.c_str());
  const std::string call = fmt::format("{}: cuModuleLoadData for {}", spec.name, arch);
  if (!is_refusal(result)) {
    check(result, call.c_str());
    return module;
  }
  log::write(log::Level::error, fmt::format("{}: the driver refused stored machine code ({}): "
                                            "compiling anew",
                                            spec.name, result));
  const std::string fresh = jit::compile(spec, arch).image;
  check(driver().module_load_data(&module, fresh.c_str()), call.c_str());
  return module;
}

Kernel prepare(const jit::KernelSpec& spec, int device_index) {
  const DeviceGuard guard(device_index);
  const DeviceLimits& limits = device_limits(device_index);
  check_smem(spec, limits, device_index);
  Kernel kernel{.threads_per_block = spec.threads_per_block,
                .dynamic_smem_bytes = spec.dynamic_smem_bytes,
                .device_index = device_index,
                .starts_early = limits.has_early_starts,
                .name = spec.name};
  const Module module = load_module(spec, limits.arch());
  check(driver().module_get_function(&kernel.function, module, spec.name.c_str()),
        fmt::format("{}: cuModuleGetFunction", spec.name).c_str());
  if (spec.dynamic_smem_bytes > 0) {
    check(driver().func_set_attribute(kernel.function, kFuncMaxDynamicSharedSize,
                                      static_cast<int>(spec.dynamic_smem_bytes)),
          fmt::format("{}: cuFuncSetAttribute for {} bytes of shared memory", spec.name,
                      spec.dynamic_smem_bytes)
              .c_str());
  }
  return kernel;
}

// A kernel and the lock that lets one thread make it while others, making other kernels, go on.
struct Slot {
  std::mutex mutex;
  Kernel kernel;
  bool ready = false;
};

Slot& slot(const std::string& key) {
  static std::shared_mutex mutex;
  // Modules stay loaded until the process ends: at that time the driver may be gone.
  static auto& slots = *new std::unordered_map<std::string, std::unique_ptr<Slot>>;
  {
    const std::shared_lock lock(mutex);
    if (const auto found = slots.find(key); found != slots.end()) return *found->second;
  }
  const std::unique_lock lock(mutex);
  auto& entry = slots[key];
  if (!entry) entry = std::make_unique<Slot>();
  return *entry;
}

}  // namespace

const Kernel& get_kernel(const jit::KernelSpec& spec, int device_index) {
  Slot& entry = slot(identity(spec, device_index));
  const std::lock_guard lock(entry.mutex);
  if (!entry.ready) {
    entry.kernel = prepare(spec, device_index);
    entry.ready = true;
  }
  return entry.kernel;
}

int max_blocks_per_sm(const Kernel& kernel) {
  const DeviceGuard guard(kernel.device_index);
  int blocks = 0;
  check(driver().occupancy_max_active_blocks(&blocks, kernel.function, kernel.threads_per_block,
                                             kernel.dynamic_smem_bytes),
        fmt::format("{}: cuOccupancyMaxActiveBlocksPerMultiprocessor", kernel.name).c_str());
  return blocks;
}

void launch(const Kernel& kernel, unsigned grid_x, unsigned grid_y, Stream stream, void* params) {
  if (grid_x == 0 || grid_y == 0) return;
  const DeviceGuard guard(kernel.device_index);
  void* arguments[] = {params};
  constexpr LaunchAttribute kStartsEarly{.id = kProgrammaticStreamSerialization, .value = {1}};
  const LaunchConfig config{.grid_x = grid_x,
                            .grid_y = grid_y,
                            .grid_z = 1,
                            .block_x = static_cast<unsigned>(kernel.threads_per_block),
                            .block_y = 1,
                            .block_z = 1,
                            .smem_bytes = static_cast<unsigned>(kernel.dynamic_smem_bytes),
                            .stream = stream.handle,
                            .attributes = &kStartsEarly,
                            .num_attributes = kernel.starts_early ? 1U : 0U};
  const Result result = driver().launch_kernel(&config, kernel.function, arguments, nullptr);
  if (result == 0) return;
  check(result,
        fmt::format("{}: cuLaunchKernelEx of {} x {} blocks of {} threads on cuda:{}", kernel.name,
                    grid_x, grid_y, kernel.threads_per_block, kernel.device_index)
            .c_str());
}

}  // namespace quire::cuda
