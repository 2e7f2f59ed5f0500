#include "cuda/embedding.h"

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::GatherRowsConfig;
using kernels::GatherRowsParams;

jit::KernelSpec gather_rows_spec(const GatherRowsConfig& config) {
  jit::KernelSpec spec;
  spec.name = "gather_rows";
  spec.header = "embedding/gather_rows.cuh";
  spec.function = "gather_rows";
  spec.config_type = "GatherRowsConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "GatherRowsParams";
  spec.threads_per_block = config.threads;
  return spec;
}

}  // namespace

void gather_rows(const GatherRowsParams& p, int device_index, Stream stream) {
  GatherRowsConfig config;
  config.word_bytes =
      access_bytes({p.table, p.out}, {p.row_bytes, p.table_stride_bytes, p.out_stride_bytes});
  config.threads = block_threads(p.row_bytes / config.word_bytes);
  const Kernel& kernel = get_kernel(gather_rows_spec(config), device_index);
  launch(kernel, grid_blocks(p.num_indices, config.threads, device_index), 1, stream, p);
}

std::vector<ListedKernel> embedding_kernels() {
  std::vector<ListedKernel> list;
  for (const int word_bytes : {16, 8, 4, 2, 1}) {
    const GatherRowsConfig config{.word_bytes = word_bytes, .threads = 256};
    list.push_back({.spec = gather_rows_spec(config), .preset = word_bytes == 16});
  }
  return list;
}

}  // namespace quire::cuda
