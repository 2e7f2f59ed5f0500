#include "cuda/cluster_row.h"

#include <algorithm>

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RowConfig;
using kernels::RowKeys;

// Short rows would leave most of many threads without work.
constexpr int kShortRow = 2048;
constexpr int kShortRowThreads = 128, kLongRowThreads = 512;
// One block holds 64 KiB of a row, so that three are at work on a multiprocessor of 228 KiB: while
// one searches, others read.
constexpr int kOneBlockRow = 16384;
// Elements an access of rows that every pass reads again: eight logits at a time, each weighed in
// every pass, need more registers than there are.
constexpr int kMaxReadAgain = 4;
constexpr int kClusterBlocks = 8;  // the most that every GPU with clusters has
// The list of configurations states the shared memory of a row like this.
constexpr int kListedVocab = 128256;

// Elements of 16 bytes when everything allows accesses of them, else one.
int vec_elems(std::int32_t vocab, std::initializer_list<RowAccess> accesses) {
  const int vec = 16 / size_bytes(accesses.begin()->dtype);
  for (const RowAccess& access : accesses) {
    const std::int64_t element = size_bytes(access.dtype);
    const int bytes = access_bytes({access.data}, {access.stride * element, vocab * element});
    if (bytes < std::min<std::int64_t>(16, vec * element)) return 1;
  }
  return vec;
}

}  // namespace

RowConfig row_config(const RowKernel& kernel, RowKeys keys, RowsShape shape,
                     std::initializer_list<RowAccess> accesses, int device_index) {
  const DeviceLimits& limits = device_limits(device_index);
  const std::int32_t vocab = shape.vocab;
  RowConfig config{.dtype = accesses.begin()->dtype,
                   .keys = keys,
                   .vec_elems = vec_elems(vocab, accesses),
                   .threads = vocab <= kShortRow ? kShortRowThreads : kLongRowThreads};
  if (vocab > kOneBlockRow && shape.rows <= kernel.max_cluster_rows && limits.compute_major >= 9) {
    config.cluster = kClusterBlocks;
  }
  config.held = row_memory_bytes(config, vocab) + kernel.own_bytes <= limits.max_smem_per_block;
  if (!config.held) config.vec_elems = std::min(config.vec_elems, kMaxReadAgain);
  return config;
}

jit::KernelSpec row_spec(const RowKernel& kernel, const RowConfig& config, std::int32_t vocab) {
  jit::KernelSpec spec;
  spec.name = kernel.name;
  spec.header = std::string(kernel.folder) + "/" + kernel.name + ".cuh";
  spec.function = kernel.name;
  spec.config_type = "RowConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = kernel.params_type;
  spec.threads_per_block = config.threads;
  spec.cluster_blocks = config.cluster;
  // Rows longer than a cluster holds are few, and weighed anew in every pass; accesses of eight
  // elements do not leave three blocks enough (sm_120a). Both take registers.
  const bool too_long = config.cluster > 1 && !config.held;
  const int most_blocks = too_long ? 1 : config.vec_elems > 4 ? 2 : kernel.min_blocks_per_sm;
  spec.min_blocks_per_sm =
      config.threads == kLongRowThreads ? std::min(kernel.min_blocks_per_sm, most_blocks) : 1;
  spec.dynamic_smem_bytes =
      static_cast<std::size_t>(row_memory_bytes(config, vocab) + kernel.own_bytes);
  return spec;
}

std::vector<ListedKernel> row_kernels(const RowKernel& kernel, DType dtype, RowKeys keys) {
  struct Mode {
    int threads, cluster;
    bool held;
    int vocab;
    int min_arch, max_arch;
    bool preset;
  };
  constexpr int kAll = INT_MAX;
  const bool always = kernel.max_cluster_rows == kAllRows;
  const Mode modes[] = {
      {kShortRowThreads, 1, true, kShortRow, 80, kAll, false},
      {kLongRowThreads, 1, true, kOneBlockRow, 80, kAll, false},
      {kLongRowThreads, 1, false, kListedVocab, 80, always ? 89 : kAll, true},
      {kLongRowThreads, kClusterBlocks, true, kListedVocab, 90, kAll, true},
      {kLongRowThreads, kClusterBlocks, false, kernels::kMaxVocab, 90, kAll, false}};
  std::vector<ListedKernel> list;
  for (const int vec : {1, 16 / size_bytes(dtype)}) {
    for (const Mode& mode : modes) {
      if (mode.cluster > 1 && kernel.max_cluster_rows == 0) continue;
      const RowConfig config{.dtype = dtype,
                             .keys = keys,
                             .vec_elems = mode.held ? vec : std::min(vec, kMaxReadAgain),
                             .threads = mode.threads,
                             .cluster = mode.cluster,
                             .held = mode.held};
      list.push_back({.spec = row_spec(kernel, config, mode.vocab),
                      .min_arch = mode.min_arch,
                      .max_arch = mode.max_arch,
                      .preset = mode.preset && vec > 1});
    }
  }
  return list;
}

}  // namespace quire::cuda
