#include "cuda/merge.h"

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::MergeStatesConfig;
using kernels::MergeStatesParams;

jit::KernelSpec merge_states_spec(const MergeStatesConfig& config) {
  return {.name = "merge_states",
          .header = "attention/merge_states.cuh",
          .function = "merge_states",
          .config_type = "MergeStatesConfig",
          .config = jit::config_literal(config),
          .params_type = "MergeStatesParams",
          .threads_per_block = config.threads};
}

}  // namespace

void merge_states(MergeStatesConfig config, const MergeStatesParams& p, int device_index,
                  Stream stream) {
  const std::int64_t element = size_bytes(config.dtype);
  const int bytes = access_bytes(
      {p.v0, p.vs, p.v_out},
      {p.head_dim * element, p.v0_entry_stride * element, p.v0_head_stride * element,
       p.vs_entry_stride * element, p.vs_state_stride * element, p.vs_head_stride * element,
       p.out_entry_stride * element, p.out_head_stride * element});
  config.vec_elems = bytes / static_cast<int>(element);
  const std::int64_t rows_per_block = config.threads / 32;
  const std::int64_t groups = (p.rows + rows_per_block - 1) / rows_per_block;
  const Kernel& kernel = get_kernel(merge_states_spec(config), device_index);
  launch(kernel, grid_blocks(groups, config.threads, device_index), 1, stream, p);
}

std::vector<ListedKernel> merge_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const int bytes : {16, size_bytes(dtype)}) {
      const MergeStatesConfig config{.dtype = dtype, .vec_elems = bytes / size_bytes(dtype)};
      list.push_back(
          {.spec = merge_states_spec(config), .preset = dtype != DType::f32 && bytes == 16});
    }
  }
  return list;
}

}  // namespace quire::cuda
