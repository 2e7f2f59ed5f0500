#include "cuda/activation.h"

#include <algorithm>
#include <cstdint>

#include "cuda/row_kernel.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::SiluAndMulConfig;
using kernels::SiluAndMulParams;

jit::KernelSpec silu_and_mul_spec(const SiluAndMulConfig& config) {
  jit::KernelSpec spec;
  spec.name = "silu_and_mul";
  spec.header = "activation/silu_and_mul.cuh";
  spec.function = "silu_and_mul";
  spec.config_type = "SiluAndMulConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "SiluAndMulParams";
  spec.threads_per_block = config.threads;
  return spec;
}

SiluAndMulConfig choose_config(SiluAndMulConfig config, const SiluAndMulParams& p) {
  const std::int64_t element = size_bytes(config.dtype);
  int bytes = access_bytes({p.input, p.out}, {p.hidden * element});
  for (int d = 0; d < p.num_leading_dims; ++d) {
    bytes = std::min(bytes,
                     access_bytes({}, {p.input_strides[d] * element, p.out_strides[d] * element}));
  }
  config.vec_elems = bytes / static_cast<int>(element);
  config.threads = block_threads(p.hidden / config.vec_elems);
  return config;
}

}  // namespace

void silu_and_mul(SiluAndMulConfig config, const SiluAndMulParams& params, int device_index,
                  Stream stream) {
  config = choose_config(config, params);
  const std::int64_t columns_per_block =
      static_cast<std::int64_t>(config.threads) * config.vec_elems;
  const std::int64_t column_blocks = (params.hidden + columns_per_block - 1) / columns_per_block;
  if (column_blocks > 65535) {
    throw Error(ErrorCode::not_implemented, "silu_and_mul: out: got " +
                                                std::to_string(params.hidden) +
                                                " in the last dimension, expected at most " +
                                                std::to_string(65535 * columns_per_block));
  }
  const Kernel& kernel = get_kernel(silu_and_mul_spec(config), device_index);
  launch(kernel, grid_blocks(params.rows, config.threads, device_index),
         static_cast<unsigned>(column_blocks), stream, params);
}

std::vector<ListedKernel> activation_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (int vec_elems = 16 / size_bytes(dtype); vec_elems > 0; vec_elems /= 2) {
      const SiluAndMulConfig config{.dtype = dtype, .vec_elems = vec_elems, .threads = 256};
      const bool preset = dtype != DType::f32 && vec_elems == 8;
      list.push_back({.spec = silu_and_mul_spec(config), .preset = preset});
    }
  }
  return list;
}

}  // namespace quire::cuda
