#include "cuda/nvfp4_kv.h"

#include <algorithm>
#include <bit>

#include "cuda/row_kernel.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::kNvfp4Block;
using kernels::Nvfp4Config;
using kernels::Nvfp4Params;

constexpr int kThreads = 256;
constexpr const char* kDequantize = "nvfp4_kv_dequantize";
constexpr const char* kQuantize = "nvfp4_kv_quantize";

jit::KernelSpec spec_of(const char* name, const Nvfp4Config& config) {
  jit::KernelSpec spec;
  spec.name = name;
  spec.header = "nvfp4_kv/" + spec.name + ".cuh";
  spec.function = name;
  spec.config_type = "Nvfp4Config";
  spec.config = jit::config_literal(config);
  spec.params_type = "Nvfp4Params";
  spec.threads_per_block = config.threads;
  // Rows come late: with all the threads that fit, others work meanwhile.
  if (spec.name == kQuantize) spec.min_blocks_per_sm = 8;
  return spec;
}

// Whether codes can be accessed by `code_bytes` and wide elements by 16 bytes.
bool is_aligned(const Nvfp4Config& config, const Nvfp4Params& p, int code_bytes) {
  const std::int64_t element = size_bytes(config.dtype);
  const int wide = access_bytes(
      {p.wide_in, p.wide_out},
      {p.wide_stride * element, p.wide_request_stride * element, p.wide_head_stride * element});
  const int codes = access_bytes({p.data}, {p.data_stride, p.data_page_stride, p.data_head_stride});
  return wide == 16 && codes >= code_bytes;
}

// `items` accesses a row, `per_thread` of them in flight.
void run(const char* name, Nvfp4Config config, Nvfp4Params p, int items, int per_thread,
         int device_index, Stream stream) {
  config.threads = kThreads;
  const auto wanted = static_cast<unsigned>((items + per_thread - 1) / per_thread);
  const int row_threads = std::min(static_cast<int>(std::bit_ceil(wanted)), kThreads);
  p.row_shift = std::countr_zero(static_cast<unsigned>(row_threads));
  p.shares = std::max((items + row_threads * per_thread - 1) / (row_threads * per_thread), 1);
  constexpr int kMaxShares = 65535;
  if (p.shares > kMaxShares) {
    throw Error(ErrorCode::not_implemented, std::string(name) + ": got rows of " +
                                                std::to_string(p.cols) +
                                                " elements, expected at most " +
                                                std::to_string(p.cols / p.shares * kMaxShares));
  }
  const std::int64_t rows_per_block = kThreads / row_threads;
  const std::int64_t groups = (p.rows + rows_per_block - 1) / rows_per_block;
  // A block a group: 8 % faster than as many as fit, in loops (H100, 262,144 rows of 128).
  launch(get_kernel(spec_of(name, config), device_index), static_cast<unsigned>(groups),
         static_cast<unsigned>(p.shares), stream, p);
}

}  // namespace

void nvfp4_kv_dequantize(Nvfp4Config config, const Nvfp4Params& params, int device_index,
                         Stream stream) {
  config.aligned = is_aligned(config, params, 4);
  run(kDequantize, config, params, params.cols / 8, 4, device_index, stream);
}

void nvfp4_kv_quantize(Nvfp4Config config, const Nvfp4Params& params, int device_index,
                       Stream stream) {
  config.aligned = is_aligned(config, params, 8);
  run(kQuantize, config, params, params.cols / kNvfp4Block, 1, device_index, stream);
}

std::vector<ListedKernel> nvfp4_kv_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const bool aligned : {true, false}) {
      Nvfp4Config config{.dtype = dtype, .aligned = aligned, .threads = kThreads};
      const bool preset = aligned && dtype != DType::f32;
      list.push_back({.spec = spec_of(kQuantize, config), .preset = preset});
      list.push_back({.spec = spec_of(kDequantize, config), .preset = preset});
      config.paged = true;
      list.push_back({.spec = spec_of(kDequantize, config), .preset = preset});
      config.index_dtype = DType::i64;
      list.push_back({.spec = spec_of(kDequantize, config)});
    }
  }
  return list;
}

}  // namespace quire::cuda
