#include "cuda/rope.h"

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RopeConfig;
using kernels::RopeParams;
using kernels::RopeSide;

jit::KernelSpec rope_spec(const RopeConfig& config) {
  jit::KernelSpec spec;
  spec.name = "rope";
  spec.header = "rope/rope.cuh";
  spec.function = "rope";
  spec.config_type = "RopeConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "RopeParams";
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = kernels::kMaxRotaryDim * sizeof(float);
  return spec;
}

RopeConfig choose_config(RopeConfig config, const RopeParams& p) {
  const std::int64_t element = size_bytes(config.dtype);
  const auto side_bytes = [&](const RopeSide& side) {
    return access_bytes({side.in, side.out},
                        {side.in_token_stride * element, side.in_head_stride * element,
                         side.out_token_stride * element, side.out_head_stride * element});
  };
  const int bytes = access_bytes(
      {}, {p.rotary_dim / 2 * element, p.head_dim * element, side_bytes(p.q), side_bytes(p.k)});
  config.vec_elems = bytes / static_cast<int>(element);
  const std::int64_t heads = static_cast<std::int64_t>(p.q.num_heads) + p.k.num_heads;
  config.threads = block_threads(heads * (p.head_dim - p.rotary_dim / 2) / config.vec_elems);
  return config;
}

}  // namespace

void rope(RopeConfig config, const RopeParams& params, int device_index, Stream stream) {
  config = choose_config(config, params);
  const Kernel& kernel = get_kernel(rope_spec(config), device_index);
  launch(kernel, static_cast<unsigned>(params.nnz), 1, stream, params);
}

std::vector<ListedKernel> rope_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const DType pos_dtype : {DType::i32, DType::i64}) {
      for (const bool interleave : {false, true}) {
        RopeConfig config{.dtype = dtype, .pos_dtype = pos_dtype, .interleave = interleave};
        config.vec_elems = 16 / size_bytes(dtype);
        config.threads = 256;
        list.push_back({.spec = rope_spec(config), .preset = dtype != DType::f32 && !interleave});
      }
    }
    list.push_back({.spec = rope_spec({.dtype = dtype, .vec_elems = 1, .threads = 256})});
  }
  return list;
}

}  // namespace quire::cuda
