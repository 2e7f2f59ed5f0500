// Modules, functions and launches of the fake driver. A module has one function, itself.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "emulator/block.h"
#include "emulator/device_state.h"
#include "emulator/fake_driver.h"
#include "quire/error.h"

namespace quire::emulator {
namespace {

using cuda::DevicePtr;
using cuda::Function;
using cuda::Module;
using cuda::Result;
using cuda::StreamHandle;

constexpr int kMaxThreadsPerSm = 2048;
constexpr int kMaxBlocksPerSm = 32;
constexpr std::size_t kReservedSmemPerBlock = 1024;

FakeModule* find_module(DeviceState& state, void* handle) {
  const auto found = state.modules.find(handle);
  return found == state.modules.end() ? nullptr : found->second.get();
}

Result module_load_data(Module* module, const void* image) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (current_device() == nullptr) return kInvalidContext;
  auto created = std::make_unique<FakeModule>();
  created->device = current_device();
  try {
    created->code = std::make_unique<KernelModule>(static_cast<const char*>(image));
  } catch (const Error& error) {
    return state.fail(kInvalidImage, error.what());
  }
  *module = created.get();
  state.modules[*module] = std::move(created);
  return kSuccess;
}

Result module_unload(Module module) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  return state.modules.erase(module) == 1 ? kSuccess : kInvalidHandle;
}

Result module_get_function(Function* function, Module module, const char* name) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  const FakeModule* found = find_module(state, module);
  if (found == nullptr) return kInvalidHandle;
  if (found->code->name() != name) return kNotFound;
  *function = module;
  return kSuccess;
}

Result func_get_attribute(int* value, int attribute, Function function) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  const FakeModule* module = find_module(state, function);
  if (module == nullptr) return kInvalidHandle;
  if (attribute != cuda::kFuncMaxDynamicSharedSize) return kInvalidValue;
  *value = module->max_dynamic_smem_bytes;
  return kSuccess;
}

Result func_set_attribute(Function function, int attribute, int value) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  FakeModule* module = find_module(state, function);
  if (module == nullptr) return kInvalidHandle;
  if (attribute != cuda::kFuncMaxDynamicSharedSize) return kInvalidValue;
  const int limit = state.arch.max_smem_per_block;
  if (value < 0 || value > limit) {
    return state.fail(kInvalidValue,
                      fmt::format("{}: {} bytes of dynamic shared memory, at most {}",
                                  module->code->name(), value, limit));
  }
  module->max_dynamic_smem_bytes = value;
  return kSuccess;
}

bool is_mapped(std::uint64_t address) {
  const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return msync(reinterpret_cast<void*>(address / page_bytes * page_bytes), 1, MS_ASYNC) == 0;
}

// Every aligned 8 bytes of the parameters that look like an address must be memory of the device
// the kernel runs on. Programs, heaps and stacks are above kLowest; below it a sanitizer may have
// mapped what two 32-bit numbers side by side look like.
std::string foreign_pointer(const DeviceState& state, const FakeModule& module,
                            const void* params) {
  constexpr std::uint64_t kLowest = 0x5000'0000'0000;
  const std::vector<unsigned char> bytes = module.code->params_without_padding(params);
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= bytes.size();
       at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    if (word < kLowest) continue;
    const auto allocation = state.find(word, 0);
    if (allocation && allocation->device == module.device) continue;
    // GCC 12 with sanitizers clears the first bytes behind the padding of an array's elements too.
    std::uint64_t given;
    std::memcpy(&given, static_cast<const unsigned char*>(params) + at, sizeof given);
    const auto as_given = state.find(given, 0);
    if (as_given && as_given->device == module.device) continue;
    if (allocation) {
      return fmt::format("parameter bytes {}: memory of device {} given to a kernel on device {}",
                         at, allocation->device->ordinal, module.device->ordinal);
    }
    if (is_mapped(word)) {
      return fmt::format("parameter bytes {}: host memory given to a kernel on device {}", at,
                         module.device->ordinal);
    }
  }
  return {};
}

Result launch(DeviceState& state, const FakeModule& module, GridLaunch grid) {
  grid.name = module.code->name();
  grid.entry = module.code->entry();
  grid.arch = state.arch.capability;
  grid.cluster_blocks = module.code->cluster_blocks();
  if (grid.cluster_blocks > 1 &&
      (grid.arch < 90 || grid.cluster_blocks > kMaxClusterBlocks ||
       grid.threads % kWarpLanes != 0 || grid.grid_x % grid.cluster_blocks != 0)) {
    return state.fail(kInvalidValue,
                      fmt::format("{}: clusters of {} blocks of {} threads, a grid of {}",
                                  grid.name, grid.cluster_blocks, grid.threads, grid.grid_x));
  }
  if (grid.grid_x < 1 || grid.grid_y < 1 || grid.grid_y > 65535) {
    return state.fail(kInvalidValue, grid.name + ": a grid without blocks, or too many");
  }
  if (grid.threads < 1 || grid.threads > std::min(module.code->max_threads(), kMaxThreads)) {
    return state.fail(kInvalidValue,
                      fmt::format("{}: {} threads a block, compiled for {}", grid.name,
                                  grid.threads, module.code->max_threads()));
  }
  if (grid.smem_bytes > static_cast<std::size_t>(module.max_dynamic_smem_bytes)) {
    return state.fail(kInvalidValue,
                      fmt::format("{}: {} bytes of dynamic shared memory, its limit is set to {}",
                                  grid.name, grid.smem_bytes, module.max_dynamic_smem_bytes));
  }
  if (const std::string text = foreign_pointer(state, module, grid.params); !text.empty()) {
    return state.fail(kIllegalAddress, grid.name + ": " + text);
  }
  const std::string fault = run_grid(grid);
  return fault.empty() ? Result{kSuccess} : state.fail(kLaunchFailed, fault);
}

Result launch_kernel(const cuda::LaunchConfig* config, Function function, void** params, void**) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  const FakeModule* module = find_module(state, function);
  if (module == nullptr) return kInvalidHandle;
  if (module->device != current_device()) {
    return state.fail(kInvalidContext,
                      fmt::format("{}: loaded on device {}, launched while {} is current",
                                  module->code->name(), module->device->ordinal,
                                  current_device() == nullptr
                                      ? "none"
                                      : fmt::format("device {}", current_device()->ordinal)));
  }
  if (!stream_is_current(state, config->stream)) {
    return state.fail(kInvalidHandle, module->code->name() + ": stream of another device");
  }
  if (config->grid_z != 1 || config->block_y != 1 || config->block_z != 1) {
    return state.fail(kInvalidValue, "kernels here have blocks of one and grids of two dimensions");
  }
  return launch(state, *module,
                {.params = params[0],
                 .grid_x = static_cast<int>(config->grid_x),
                 .grid_y = static_cast<int>(config->grid_y),
                 .threads = static_cast<int>(config->block_x),
                 .smem_bytes = config->smem_bytes});
}

Result occupancy_max_active_blocks(int* blocks, Function function, int block_size,
                                   std::size_t dynamic_smem_bytes) {
  DeviceState& state = device_state();
  const std::lock_guard lock(state.mutex);
  if (find_module(state, function) == nullptr) return kInvalidHandle;
  if (block_size < 1) return kInvalidValue;
  const auto by_smem = static_cast<int>(static_cast<std::size_t>(state.arch.smem_per_sm) /
                                        (dynamic_smem_bytes + kReservedSmemPerBlock));
  *blocks = std::min({kMaxThreadsPerSm / block_size, by_smem, kMaxBlocksPerSm});
  return kSuccess;
}

}  // namespace

void add_module_calls(cuda::DriverTable& table) {
  table.module_load_data = module_load_data;
  table.module_unload = module_unload;
  table.module_get_function = module_get_function;
  table.func_get_attribute = func_get_attribute;
  table.func_set_attribute = func_set_attribute;
  table.launch_kernel = launch_kernel;
  table.occupancy_max_active_blocks = occupancy_max_active_blocks;
}

}  // namespace quire::emulator
