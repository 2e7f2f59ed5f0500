#include "cuda/speculative.h"

#include "cuda/cluster_row.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RowKeys;

constexpr RowKernel kChain{
    .folder = "speculative", .name = "chain_speculative", .params_type = "ChainParams"};
constexpr kernels::TreeConfig kTree{.threads = 128};

jit::KernelSpec tree_spec() {
  jit::KernelSpec spec;
  spec.name = "verify_tree";
  spec.header = "speculative/verify_tree.cuh";
  spec.function = "verify_tree";
  spec.config_type = "TreeConfig";
  spec.config = jit::config_literal(kTree);
  spec.params_type = "TreeParams";
  spec.threads_per_block = kTree.threads;
  return spec;
}

}  // namespace

void chain_speculative(const kernels::ChainParams& p, int device_index, Stream stream) {
  const kernels::RowConfig config = row_config(kChain, RowKeys::residual, {p.batch, p.vocab},
                                               {{p.target_probs, p.target_batch_stride, DType::f32},
                                                {p.target_probs, p.target_row_stride, DType::f32}},
                                               device_index);
  launch_rows(row_spec(kChain, config, p.vocab), p.batch, device_index, stream, p);
}

void verify_tree(const kernels::TreeParams& p, int device_index, Stream stream) {
  const auto blocks = static_cast<unsigned>((p.batch + kTree.threads - 1) / kTree.threads);
  launch(get_kernel(tree_spec(), device_index), blocks, 1, stream, p);
}

std::vector<ListedKernel> speculative_kernels() {
  std::vector<ListedKernel> list = row_kernels(kChain, DType::f32, RowKeys::residual);
  list.push_back({.spec = tree_spec(), .preset = true});
  return list;
}

}  // namespace quire::cuda
