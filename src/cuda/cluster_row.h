// What the launches of kernels over rows of the vocabulary (kernels/sampling/cluster_row.h) share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "sampling/row_types.h"

namespace quire::cuda {

// A tensor of rows that a kernel reads or writes.
struct RowAccess {
  const void* data;
  std::int64_t stride;  // elements
  kernels::DType dtype;
};

constexpr std::int64_t kAllRows = INT64_MAX;
// Longer rows are looked over for candidates.
constexpr std::int32_t kCandidatesRow = 8192;

struct RowKernel {
  const char* folder;
  const char* name;  // of the kernel, its entry point and its header in `folder`
  const char* params_type;
  int min_blocks_per_sm = 2;              // of long rows, that there must be registers for
  int own_bytes = kernels::kSearchBytes;  // of shared memory behind the row's header
  // Longer rows have a cluster of blocks each, up to as many rows (of top-k no shorter ones: H100,
  // 16 rows of 16,384, k = 2048: 40 us with a block each, 56 with eight). With more rows, one block
  // each keeps the GPU busy, and need not wait for others.
  std::int32_t one_block_row = 16384;
  std::int64_t max_cluster_rows = 64;
  int max_vec_elems = 8;          // an access
  bool holds_rows = true;         // in shared memory, where that is large enough
  bool finds_candidates = false;  // of top-k, in one pass (kernels/sampling/candidates.h)
};

struct RowsShape {
  std::int64_t rows;
  std::int32_t vocab;
  std::int32_t candidates = 0;  // how many of a row's largest elements are looked for, if any are
};

// How rows are best read on the device: the first access is the input's.
kernels::RowConfig row_config(const RowKernel& kernel, kernels::RowKeys keys, RowsShape shape,
                              std::initializer_list<RowAccess> accesses, int device_index);

jit::KernelSpec row_spec(const RowKernel& kernel, const kernels::RowConfig& config,
                         std::int32_t vocab);

// Every configuration that row_config() can give for this dtype and these keys.
std::vector<ListedKernel> row_kernels(const RowKernel& kernel, kernels::DType dtype,
                                      kernels::RowKeys keys);

// One cluster of blocks a row.
template <class Params>
void launch_rows(const jit::KernelSpec& spec, std::int64_t rows, int device_index, Stream stream,
                 const Params& params) {
  launch(get_kernel(spec, device_index), static_cast<unsigned>(rows * spec.cluster_blocks), 1,
         stream, params);
}

}  // namespace quire::cuda
