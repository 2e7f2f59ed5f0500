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

// Blocks that share a row which they hold: eight where they all run at a time, else two, or eight
// where two cannot hold it (H100, top-p of 64 rows: of 32,000 tokens 42 us with two blocks, 71 with
// eight; of 128,256 tokens 164 us with four, 122 with eight).
int holding_blocks(RowConfig config, const RowKernel& kernel, RowsShape shape,
                   const DeviceLimits& limits) {
  if (kernel.max_cluster_rows == kAllRows || shape.rows * kClusterBlocks <= limits.num_sms) {
    return kClusterBlocks;
  }
  config.cluster = 2;
  const std::int64_t memory = row_memory_bytes(config, shape.vocab) + kernel.own_bytes;
  return memory <= limits.max_smem_per_block ? 2 : kClusterBlocks;
}

// Long rows of which candidates are looked for in one pass are not held. As many blocks share one
// as run at a time; clusters of more than two take half of the multiprocessors at most, since those
// of a GPC do not divide evenly among them (H100: 16 rows take 26 us with eight blocks each, 21
// with four), unless lists are too long for fewer. Where there are no candidates, `config` stays as
// it is.
RowConfig with_candidates(const RowConfig& config, RowsShape shape, const DeviceLimits& limits) {
  RowConfig best = config;
  best.held = false;
  const auto has_them = [&](int cluster) {
    best.cluster = cluster;
    return has_candidates(best, shape.candidates, shape.vocab);
  };
  const int most = limits.compute_major >= 9 ? kClusterBlocks : 1;
  int cluster = 1;
  while (cluster < most) {
    const int doubled = 2 * cluster;
    const bool has = has_them(cluster);
    const int share = doubled > 2 && has ? 2 : 1;  // of the multiprocessors, one in
    if (shape.rows * doubled > limits.num_sms / share || (has && !has_them(doubled))) break;
    cluster = doubled;
  }
  return has_them(cluster) ? best : config;
}

}  // namespace

RowConfig row_config(const RowKernel& kernel, RowKeys keys, RowsShape shape,
                     std::initializer_list<RowAccess> accesses, int device_index) {
  const DeviceLimits& limits = device_limits(device_index);
  const std::int32_t vocab = shape.vocab;
  RowConfig config{.dtype = accesses.begin()->dtype,
                   .keys = keys,
                   .vec_elems = std::min(vec_elems(vocab, accesses), kernel.max_vec_elems),
                   .threads = vocab <= kShortRow ? kShortRowThreads : kLongRowThreads};
  const bool is_long = vocab > kernel.one_block_row;
  if (is_long && shape.rows <= kernel.max_cluster_rows && limits.compute_major >= 9) {
    config.cluster = holding_blocks(config, kernel, shape, limits);
  }
  config.held = kernel.holds_rows &&
                row_memory_bytes(config, vocab) + kernel.own_bytes <= limits.max_smem_per_block;
  return kernel.finds_candidates && vocab > kCandidatesRow ? with_candidates(config, shape, limits)
                                                           : config;
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
  // Rows that a cluster does not hold are few, and weighed anew in every pass; accesses of eight
  // elements do not leave three blocks enough (sm_120a), nor do short rows of 16 bits (sm_100a).
  // All this takes registers.
  const bool are_16_bits = size_bytes(config.dtype) == 2;
  const bool are_few = config.cluster > 1 && !config.held;
  const bool are_short = config.cluster == 1 && config.held && are_16_bits;
  // Nor do two blocks have enough for probabilities of 16 bits (sm_80, sm_90a), or where a cluster
  // holds numbers (sm_100a, sm_120a).
  const bool is_tight = (config.keys == RowKeys::probabilities && are_16_bits) ||
                        (config.keys == RowKeys::ordered && config.held && config.cluster > 1);
  const int most_blocks = are_few || is_tight                 ? 1
                          : config.vec_elems > 4 || are_short ? 2
                                                              : kernel.min_blocks_per_sm;
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
    bool is_chosen = false;  // by the number of rows
  };
  constexpr int kAll = INT_MAX;
  const bool always = kernel.max_cluster_rows == kAllRows;
  const Mode modes[] = {{kShortRowThreads, 1, true, kShortRow, 80, kAll, false},
                        {kLongRowThreads, 1, true, kernel.one_block_row, 80, kAll, false},
                        {kLongRowThreads, 1, false, kListedVocab, 80, always ? 89 : kAll, true},
                        {kLongRowThreads, kClusterBlocks, true, kListedVocab, 90, kAll, true},
                        {kLongRowThreads, 2, true, kListedVocab / 4, 90, kAll, false, true},
                        {kLongRowThreads, kClusterBlocks, false, kernels::kMaxVocab, 90, kAll,
                         kernel.finds_candidates},
                        {kLongRowThreads, 4, false, kernels::kMaxVocab, 90, kAll, true, true},
                        {kLongRowThreads, 2, false, kernels::kMaxVocab, 90, kAll, true, true}};
  std::vector<ListedKernel> list;
  for (const int vec : {1, std::min(16 / size_bytes(dtype), kernel.max_vec_elems)}) {
    for (const Mode& mode : modes) {
      if (mode.is_chosen && (always || (!mode.held && !kernel.finds_candidates))) continue;
      if (!mode.held && !kernel.holds_rows) continue;  // those of rows that are held stand for them
      const RowConfig config{.dtype = dtype,
                             .keys = keys,
                             .vec_elems = vec,
                             .threads = mode.threads,
                             .cluster = mode.cluster,
                             .held = mode.held && kernel.holds_rows};
      list.push_back({.spec = row_spec(kernel, config, mode.vocab),
                      .min_arch = mode.min_arch,
                      .max_arch = mode.max_arch,
                      .preset = mode.preset && vec > 1});
    }
  }
  return list;
}

}  // namespace quire::cuda
