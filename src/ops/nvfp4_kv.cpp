#include "quire/nvfp4_kv.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/nvfp4_kv.h"
#include "cuda/nvfp4_kv.h"

namespace quire {
namespace {

using check::Arg;
using kernels::Nvfp4Config;
using kernels::Nvfp4Params;

constexpr std::int64_t kBlock = kernels::kNvfp4Block;

void check_memory(const Arg& arg, int rank, bool is_output) {
  check::rank(arg, rank);
  check::last_dim_contiguous(arg);
  check::memory(arg, is_output);
}

// What all have: dtypes, ranks, the last dimensions, the device and the global scale.
Nvfp4Params check_tensors(const Arg& wide, const Arg& data, const Arg& scales,
                          const Fp8Scale& global_scale, bool to_wide) {
  check::dtype(wide, {DType::f32, DType::f16, DType::bf16});
  check::dtype(data, {DType::u8});
  check::dtype(scales, {DType::f8e4m3, DType::u8});
  const int rank = wide.tensor.rank;
  check_memory(wide, rank, to_wide);
  check_memory(data, rank, !to_wide);
  check_memory(scales, rank, !to_wide);
  const std::int64_t cols = wide.tensor.shape[rank - 1];
  if (cols % kBlock != 0) {
    check::fail(wide.op, wide.name, fmt::format("{} columns", cols), "a multiple of 16");
  }
  check::dim(data, rank - 1, cols / 2, fmt::format("two columns of {} a byte", wide.name));
  check::dim(scales, rank - 1, cols / kBlock, fmt::format("blocks of 16 columns of {}", wide.name));
  check::device(scales, data);
  check::device(wide, data);
  Nvfp4Params p{};
  if (global_scale.kind() == Fp8Scale::Kind::number) {
    check::finite_positive(data.op, "global_scale", global_scale.number());
    p.global_value = global_scale.number();
  } else if (global_scale.kind() == Fp8Scale::Kind::computed) {
    check::fail(data.op, "global_scale", "computed scales", "a given one");
  } else {
    const Arg global{data.op, "global_scale", global_scale.tensor()};
    check::dtype(global, {DType::f32});
    check::device(global, data);
    check::memory(global);
    if (global.tensor.numel() != 1) {
      check::fail(global.op, global.name, fmt::format("{} elements", global.tensor.numel()), "1");
    }
    p.global_scale = static_cast<const float*>(global.tensor.data);
  }
  p.wide_in = to_wide ? nullptr : wide.tensor.data;
  p.wide_out = to_wide ? wide.tensor.data : nullptr;
  p.data = static_cast<kernels::u8*>(data.tensor.data);
  p.block_scales = static_cast<kernels::u8*>(scales.tensor.data);
  p.cols = rows::count(wide, cols, "columns");
  return p;
}

// Everything of tensors of rank 2.
Nvfp4Params check_flat(const Arg& wide, const Arg& data, const Arg& scales,
                       const Fp8Scale& global_scale, bool to_wide) {
  check::rank(wide, 2);
  Nvfp4Params p = check_tensors(wide, data, scales, global_scale, to_wide);
  check::dim(data, 0, wide.tensor.shape[0], fmt::format("rows of {}", wide.name));
  check::dim(scales, 0, wide.tensor.shape[0], fmt::format("rows of {}", wide.name));
  p.rows = rows::count(wide, wide.tensor.shape[0], "rows");
  p.wide_stride = rows::step(wide.tensor, 0);
  p.data_stride = rows::step(data.tensor, 0);
  p.scale_stride = rows::step(scales.tensor, 0);
  return p;
}

std::int64_t page_id(const TensorView& tables, std::int64_t request, std::int64_t place) {
  const std::int64_t at = request * tables.strides[0] + place * tables.strides[1];
  return tables.dtype == DType::i64 ? static_cast<const std::int64_t*>(tables.data)[at]
                                    : static_cast<const std::int32_t*>(tables.data)[at];
}

// On the CPU every length and id can be looked at.
void check_host_pages(const Arg& tables, const Arg& seq_lens, const Nvfp4Params& p) {
  if (!tables.tensor.device.is_cpu()) return;
  for (std::int64_t r = 0; r < tables.tensor.shape[0]; ++r) {
    const std::int64_t length = p.seq_lens[r];
    if (length < 0 || length > p.tokens || length > std::int64_t{p.max_pages} * p.page_size) {
      check::fail(
          seq_lens.op, seq_lens.name, fmt::format("{} at {}", length, r),
          fmt::format("0 to {} tokens, and no more than {} pages hold", p.tokens, p.max_pages));
    }
    for (std::int64_t place = 0; place * p.page_size < length; ++place) {
      const std::int64_t page = page_id(tables.tensor, r, place);
      if (page >= 0 && page < p.num_pages) continue;
      check::fail(tables.op, tables.name, fmt::format("{} at [{}, {}]", page, r, place),
                  fmt::format("one of {} pages", p.num_pages));
    }
  }
}

// The dimensions of pages, and where their parts are.
void add_pages(Nvfp4Params& p, const Arg& data, const Arg& scales, const Arg& out,
               KvLayout layout) {
  const int token_dim = layout == KvLayout::nhd ? 1 : 2, head_dim = 3 - token_dim;
  for (int d = 0; d < 3; ++d) check::dim(scales, d, data.tensor.shape[d], "as in data");
  check::dim(data, head_dim, out.tensor.shape[2], "heads of out");
  p.num_pages = data.tensor.shape[0];
  p.page_size = rows::count(data, data.tensor.shape[token_dim], "tokens a page");
  p.tokens = rows::count(out, out.tensor.shape[1], "tokens");
  p.heads = rows::count(out, out.tensor.shape[2], "heads");
  if (p.page_size == 0) check::fail(data.op, data.name, "pages of 0 tokens", "1 or more");
  p.wide_request_stride = rows::step(out.tensor, 0);
  p.wide_stride = rows::step(out.tensor, 1);
  p.wide_head_stride = rows::step(out.tensor, 2);
  p.data_page_stride = rows::step(data.tensor, 0);
  p.data_stride = rows::step(data.tensor, token_dim);
  p.data_head_stride = rows::step(data.tensor, head_dim);
  p.scale_page_stride = rows::step(scales.tensor, 0);
  p.scale_stride = rows::step(scales.tensor, token_dim);
  p.scale_head_stride = rows::step(scales.tensor, head_dim);
}

void run_dequantize(const Arg& data, const Nvfp4Config& config, const Nvfp4Params& p,
                    Stream stream) {
  if (p.rows == 0 || p.cols == 0) return;
  const Device device = data.tensor.device;
  dispatch(
      data.op.data(), device, [&] { cpu::nvfp4_kv_dequantize(config, p); },
      [&] { cuda::nvfp4_kv_dequantize(config, p, device.index, stream); });
}

}  // namespace

void nvfp4_kv_dequantize(const TensorView& data, const TensorView& block_scales,
                         const Fp8Scale& global_scale, const TensorView& out, Stream stream) {
  constexpr const char* kOp = "nvfp4_kv_dequantize";
  const Arg data_arg{kOp, "data", data};
  const Nvfp4Params p = check_flat({kOp, "out", out}, data_arg, {kOp, "block_scales", block_scales},
                                   global_scale, /*to_wide=*/true);
  run_dequantize(data_arg, {.dtype = check::to_kernel(out.dtype)}, p, stream);
}

void nvfp4_kv_quantize(const TensorView& input, const Fp8Scale& global_scale,
                       const TensorView& data, const TensorView& block_scales, Stream stream) {
  constexpr const char* kOp = "nvfp4_kv_quantize";
  const Nvfp4Params p = check_flat({kOp, "input", input}, {kOp, "data", data},
                                   {kOp, "block_scales", block_scales}, global_scale,
                                   /*to_wide=*/false);
  if (p.rows == 0 || p.cols == 0) return;
  const Nvfp4Config config{.dtype = check::to_kernel(input.dtype)};
  dispatch(
      kOp, input.device, [&] { cpu::nvfp4_kv_quantize(config, p); },
      [&] { cuda::nvfp4_kv_quantize(config, p, input.device.index, stream); });
}

void nvfp4_kv_dequantize_paged(const TensorView& data, const TensorView& block_scales,
                               KvLayout layout, const TensorView& block_tables,
                               const TensorView& seq_lens, const Fp8Scale& global_scale,
                               const TensorView& out, Stream stream) {
  constexpr const char* kOp = "nvfp4_kv_dequantize_paged";
  const Arg data_arg{kOp, "data", data}, scales{kOp, "block_scales", block_scales};
  const Arg out_arg{kOp, "out", out}, tables{kOp, "block_tables", block_tables};
  const Arg lens{kOp, "seq_lens", seq_lens};
  check::rank(out_arg, 4);
  Nvfp4Params p = check_tensors(out_arg, data_arg, scales, global_scale, /*to_wide=*/true);
  add_pages(p, data_arg, scales, out_arg, layout);
  check::rank(tables, 2);
  check::dtype(tables, {DType::i32, DType::i64});
  check::dim(tables, 0, out.shape[0], "requests of out");
  check::device(tables, data_arg);
  check::memory(tables);
  check::rank(lens, 1);
  check::dtype(lens, {DType::i32});
  check::dim(lens, 0, out.shape[0], "requests of out");
  check::contiguous(lens);
  check::device(lens, data_arg);
  check::memory(lens);
  p.block_tables = block_tables.data;
  p.seq_lens = static_cast<const kernels::i32*>(seq_lens.data);
  p.table_row_stride = rows::step(block_tables, 0);
  p.table_stride = rows::step(block_tables, 1);
  p.max_pages = rows::count(tables, block_tables.shape[1], "pages");
  p.rows = rows::count(out_arg, out.shape[0] * out.shape[1] * out.shape[2], "rows");
  check_host_pages(tables, lens, p);
  run_dequantize(data_arg,
                 {.dtype = check::to_kernel(out.dtype),
                  .index_dtype = check::to_kernel(block_tables.dtype),
                  .paged = true},
                 p, stream);
}

}  // namespace quire
