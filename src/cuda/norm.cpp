#include "cuda/norm.h"

#include <algorithm>
#include <bit>

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RmsNormConfig;
using kernels::RmsNormParams;

jit::KernelSpec rms_norm_spec(const RmsNormConfig& config) {
  jit::KernelSpec spec;
  spec.name = "rms_norm";
  spec.header = "norm/rms_norm.cuh";
  spec.function = "rms_norm";
  spec.config_type = "RmsNormConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "RmsNormParams";
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = 32 * sizeof(float);
  return spec;
}

// Threads for rows of `hidden` elements: as few as hold the row in their registers.
RmsNormConfig choose_threads(RmsNormConfig config, int access_bytes, std::int64_t hidden) {
  constexpr int kKeptElements = 16;  // a thread; 1024 threads of it still have registers to spare
  config.vec_elems = access_bytes / size_bytes(config.dtype);
  config.vecs_per_thread = kKeptElements / config.vec_elems;
  const std::int64_t wanted = (hidden + kKeptElements - 1) / kKeptElements;
  config.threads_per_row = static_cast<int>(
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(wanted, 8, 1024))));
  if (wanted > 1024) config.vecs_per_thread = 0;
  config.threads = std::max(128, config.threads_per_row);
  // Rows of several warps have the block to themselves: its barriers are theirs.
  if (config.threads_per_row > 32) config.threads = config.threads_per_row;
  return config;
}

RmsNormConfig choose_config(const RmsNormConfig& config, const RmsNormParams& p) {
  const std::int64_t element = size_bytes(config.dtype);
  const int bytes = access_bytes(
      {p.input, p.residual, p.weight, p.out},
      {p.hidden * element, p.input_token_stride * element, p.input_head_stride * element,
       p.residual_token_stride * element, p.residual_head_stride * element,
       p.out_token_stride * element, p.out_head_stride * element});
  return choose_threads(config, bytes, p.hidden);
}

}  // namespace

void rms_norm(RmsNormConfig config, const RmsNormParams& params, int device_index, Stream stream) {
  config = choose_config(config, params);
  const int rows_per_block = config.threads / config.threads_per_row;
  const std::int64_t groups =
      (static_cast<std::int64_t>(params.rows) + rows_per_block - 1) / rows_per_block;
  const Kernel& kernel = get_kernel(rms_norm_spec(config), device_index);
  launch(kernel, grid_blocks(groups, config.threads, device_index), 1, stream, params);
}

std::vector<ListedKernel> norm_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const bool fused_add : {false, true}) {
      const RmsNormConfig config{.dtype = dtype, .fused_add = fused_add};
      for (const int hidden : {128, 256, 1024, 2048, 4096, 8192, 16384, 32768}) {
        const bool preset = dtype != DType::f32 && hidden >= 128 && hidden <= 8192;
        list.push_back(
            {.spec = rms_norm_spec(choose_threads(config, 16, hidden)), .preset = preset});
      }
      const int narrow = size_bytes(dtype);
      for (const int hidden : {128, 4096}) {
        list.push_back({.spec = rms_norm_spec(choose_threads(config, narrow, hidden))});
      }
    }
  }
  return list;
}

}  // namespace quire::cuda
