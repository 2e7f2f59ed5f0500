#include "cuda/activation.h"

#include <algorithm>
#include <cstdint>

#include "cuda/row_kernel.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::Activation;
using kernels::ActivationConfig;
using kernels::ActivationParams;
using kernels::DType;
using kernels::Scaling;

jit::KernelSpec activation_spec(const ActivationConfig& config) {
  jit::KernelSpec spec;
  spec.name = "activate_and_mul";
  spec.header = "activation/activation.cuh";
  spec.function = "activate_and_mul";
  spec.config_type = "ActivationConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "ActivationParams";
  spec.threads_per_block = config.threads;
  // Enough loads in flight. The error function waits longest for its own results.
  spec.min_blocks_per_sm = (config.activation == Activation::gelu ? 2048 : 1536) / config.threads;
  return spec;
}

// As the kernel has it.
std::int64_t elems_per_thread(const ActivationConfig& config) {
  return config.scaling == Scaling::computed ? std::max(config.vec_elems, kernels::kScaleGroup / 32)
                                             : config.vec_elems;
}

ActivationConfig choose_config(ActivationConfig config, const ActivationParams& p) {
  const int element = size_bytes(config.dtype), out_element = size_bytes(config.out_dtype);
  config.vec_elems =
      access_elems(16 / element, p.hidden, {{p.input, element, {}}, {p.out, out_element, {}}});
  for (int d = 0; d < p.num_leading_dims; ++d) {
    config.vec_elems = access_elems(
        config.vec_elems, p.hidden,
        {{nullptr, element, {p.input_strides[d]}}, {nullptr, out_element, {p.out_strides[d]}}});
  }
  config.threads = block_threads(p.hidden / elems_per_thread(config));
  return config;
}

}  // namespace

void activate_and_mul(const char* op, ActivationConfig config, const ActivationParams& params,
                      int device_index, Stream stream) {
  config = choose_config(config, params);
  const std::int64_t columns_per_block = config.threads * elems_per_thread(config);
  ActivationParams p = params;
  p.parts = static_cast<std::int32_t>((p.hidden + columns_per_block - 1) / columns_per_block);
  const std::int64_t blocks = std::int64_t{p.rows} * p.parts;
  if (blocks > kMaxBlocks) {
    throw Error(ErrorCode::not_implemented,
                std::string(op) + ": out: got " + std::to_string(p.rows) + " rows of " +
                    std::to_string(p.hidden) + " elements, expected at most " +
                    std::to_string(kMaxBlocks / p.parts) + " rows");
  }
  launch(get_kernel(activation_spec(config), device_index), static_cast<unsigned>(blocks), 1,
         stream, p);
}

std::vector<ListedKernel> activation_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const Activation activation :
         {Activation::silu, Activation::gelu, Activation::gelu_tanh}) {
      for (const int vec_elems : {16 / size_bytes(dtype), 1}) {
        ActivationConfig config{.activation = activation, .dtype = dtype, .out_dtype = dtype};
        config.vec_elems = vec_elems;
        config.threads = 256;
        const bool preset = dtype != DType::f32 && vec_elems == 8 && activation == Activation::silu;
        list.push_back({.spec = activation_spec(config), .preset = preset});
        config.out_dtype = DType::f8e4m3;
        for (const Scaling scaling : {Scaling::given, Scaling::computed}) {
          config.scaling = scaling;
          list.push_back({.spec = activation_spec(config), .preset = preset});
        }
      }
    }
  }
  return list;
}

}  // namespace quire::cuda
