// Getting a kernel ready on a device, and launching it.
#pragma once

#include <climits>
#include <cstddef>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "jit/kernel_spec.h"
#include "quire/device.h"

namespace quire::cuda {

struct Kernel {
  Function function = nullptr;
  int threads_per_block = 0;
  std::size_t dynamic_smem_bytes = 0;
  int device_index = 0;
  bool starts_early = false;  // while the kernel before it in the stream ends
  std::string name = {};      // for error texts
};

// Compiles or loads `spec` for the device, once a process and device; thread-safe. Also raises the
// dynamic shared-memory limit of the function. The reference stays valid.
const Kernel& get_kernel(const jit::KernelSpec& spec, int device_index);

// Thread blocks of `kernel` that fit on one multiprocessor at a time.
int max_blocks_per_sm(const Kernel& kernel);

// Launches on kernel's device and the stream; restores the caller's current device. A grid of 0
// blocks launches nothing.
void launch(const Kernel& kernel, unsigned grid_x, unsigned grid_y, Stream stream, void* params);

template <class Params>
void launch(const Kernel& kernel, unsigned grid_x, unsigned grid_y, Stream stream,
            const Params& params) {
  Params copy = params;
  launch(kernel, grid_x, grid_y, stream, static_cast<void*>(&copy));
}

// Every configuration that `quire compile --all`, CI and the precompiled preset build. One function
// an operator, in src/cuda/<op>.cpp; listed_kernels() in src/cuda/listed_kernels.cpp joins them.
struct ListedKernel {
  jit::KernelSpec spec;
  int min_arch = 80;  // 80, 90, …: lowest compute capability it is for
  int max_arch = INT_MAX;
  bool preset = false;  // part of the precompiled set
  // Only for devices with room for its shared memory; elsewhere the operator takes a smaller tile.
  bool large_smem = false;
};
std::vector<ListedKernel> listed_kernels();

}  // namespace quire::cuda
