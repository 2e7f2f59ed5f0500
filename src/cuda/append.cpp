#include "cuda/append.h"

#include <algorithm>
#include <limits>

#include "cuda/driver.h"
#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::AppendConfig;
using kernels::AppendParams;
using kernels::AppendSide;
using kernels::DType;
using kernels::IndexConfig;

constexpr IndexConfig kIndexConfig{.threads = 128};

jit::KernelSpec append_spec(const AppendConfig& config) {
  jit::KernelSpec spec;
  spec.name = "append_paged_kv";
  spec.header = "append/append_paged_kv.cuh";
  spec.function = "append_paged_kv";
  spec.config_type = "AppendConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "AppendParams";
  spec.threads_per_block = config.threads;
  return spec;
}

jit::KernelSpec index_spec(const char* function, const char* params_type) {
  jit::KernelSpec spec;
  spec.name = function;
  spec.header = "append/append_indices.cuh";
  spec.function = function;
  spec.config_type = "IndexConfig";
  spec.config = jit::config_literal(kIndexConfig);
  spec.params_type = params_type;
  spec.threads_per_block = kIndexConfig.threads;
  return spec;
}

jit::KernelSpec batch_indices_spec() {
  return index_spec("batch_indices_positions", "BatchIndicesParams");
}

jit::KernelSpec seq_lens_spec() { return index_spec("seq_lens", "SeqLensParams"); }

jit::KernelSpec slot_check_spec() {
  jit::KernelSpec spec = index_spec("slot_check", "SlotCheckParams");
  spec.header = "append/slot_check.cuh";
  return spec;
}

unsigned index_grid(std::int64_t size, int device_index) {
  return grid_blocks((size + kIndexConfig.threads - 1) / kIndexConfig.threads, kIndexConfig.threads,
                     device_index);
}

}  // namespace

void append_paged_kv(AppendConfig config, const AppendParams& p, int device_index, Stream stream) {
  const int element = size_bytes(config.dtype), cache_element = size_bytes(config.cache_dtype);
  const auto side_bytes = [&](const AppendSide& side) {
    const int rows = access_bytes(
        {side.rows}, {side.head_bytes, side.row_stride_bytes, side.row_head_stride_bytes});
    const int pool = access_bytes(
        {side.pool}, {side.page_stride_bytes, side.token_stride_bytes, side.head_stride_bytes});
    return std::min(rows, pool * element / cache_element);
  };
  config.word_bytes = std::min(side_bytes(p.k), side_bytes(p.v));
  // Few rows: a thread an access of K or of V. Many: half as many, in more blocks at a time.
  const bool are_few = p.to.nnz <= 2 * device_limits(device_index).num_sms;
  const std::int64_t head_bytes = are_few ? std::int64_t{p.k.head_bytes} + p.v.head_bytes
                                          : std::max(p.k.head_bytes, p.v.head_bytes);
  config.threads = block_threads(p.num_kv_heads * head_bytes / config.word_bytes);
  if (config.dtype == config.cache_dtype) config.dtype = config.cache_dtype = DType::u8;
  const Kernel& kernel = get_kernel(append_spec(config), device_index);
  launch(kernel, static_cast<unsigned>(p.to.nnz), 1, stream, p);
}

std::int64_t first_bad_row(int device_index, const kernels::SlotLookup& slots, Stream stream) {
  const Device device = cuda_device(device_index);
  Buffer result(sizeof(std::int32_t), device);
  std::int32_t row = std::numeric_limits<std::int32_t>::max();
  copy(result.data(), device, &row, kCpu, sizeof row, stream);
  kernels::SlotCheckParams p{.slots = slots,
                             .first_bad = static_cast<std::int32_t*>(result.data())};
  const Kernel& kernel = get_kernel(slot_check_spec(), device_index);
  launch(kernel, index_grid(slots.nnz, device_index), 1, stream, p);
  copy(&row, kCpu, result.data(), device, sizeof row, stream);
  return row == std::numeric_limits<std::int32_t>::max() ? -1 : row;
}

void batch_indices_positions(const kernels::BatchIndicesParams& p, int device_index,
                             Stream stream) {
  const Kernel& kernel = get_kernel(batch_indices_spec(), device_index);
  launch(kernel, index_grid(p.nnz, device_index), 1, stream, p);
}

void seq_lens(const kernels::SeqLensParams& p, int device_index, Stream stream) {
  const Kernel& kernel = get_kernel(seq_lens_spec(), device_index);
  launch(kernel, index_grid(p.batch_size, device_index), 1, stream, p);
}

std::vector<ListedKernel> append_kernels() {
  std::vector<ListedKernel> list;
  for (const int word_bytes : {16, 8, 4, 2, 1}) {
    for (const int threads : {64, 128, 256}) {
      const AppendConfig config{.word_bytes = word_bytes, .threads = threads};
      list.push_back({.spec = append_spec(config), .preset = word_bytes == 16});
    }
  }
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const DType cache_dtype : {DType::f8e4m3, DType::f8e5m2}) {
      for (int word_bytes = 16; word_bytes >= size_bytes(dtype); word_bytes /= 2) {
        AppendConfig config{.dtype = dtype, .cache_dtype = cache_dtype};
        config.word_bytes = word_bytes;
        config.threads = 256;
        const bool preset = dtype != DType::f32 && word_bytes == 16;
        list.push_back({.spec = append_spec(config), .preset = preset});
      }
    }
  }
  list.push_back({.spec = slot_check_spec()});
  list.push_back({.spec = batch_indices_spec(), .preset = true});
  list.push_back({.spec = seq_lens_spec(), .preset = true});
  return list;
}

}  // namespace quire::cuda
