#include "cuda/merge.h"

#include <algorithm>

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
  const int first = size_bytes(config.dtype), others = size_bytes(config.others_dtype);
  const int out = size_bytes(config.out_dtype);
  config.vec_elems =
      access_elems(16 / std::min({first, others, out}), p.head_dim,
                   {{p.v0, first, {p.v0_entry_stride, p.v0_head_stride}},
                    {p.vs, others, {p.vs_entry_stride, p.vs_state_stride, p.vs_head_stride}},
                    {p.v_out, out, {p.out_entry_stride, p.out_head_stride}}});
  const std::int64_t rows_per_block = config.threads / 32;
  const std::int64_t groups = (p.rows + rows_per_block - 1) / rows_per_block;
  const Kernel& kernel = get_kernel(merge_states_spec(config), device_index);
  launch(kernel, grid_blocks(groups, config.threads, device_index), 1, stream, p);
}

std::vector<ListedKernel> merge_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const int bytes : {16, size_bytes(dtype)}) {
      const MergeStatesConfig config{.dtype = dtype,
                                     .others_dtype = dtype,
                                     .out_dtype = dtype,
                                     .vec_elems = bytes / size_bytes(dtype)};
      list.push_back(
          {.spec = merge_states_spec(config), .preset = dtype != DType::f32 && bytes == 16});
    }
    if (dtype == DType::f32) continue;
    // A 16-bit state beside one in f32, as partial results are.
    list.push_back(
        {.spec = merge_states_spec(
             {.dtype = dtype, .others_dtype = DType::f32, .out_dtype = dtype, .vec_elems = 8})});
  }
  return list;
}

}  // namespace quire::cuda
