#include "quire/quantize.h"

#include <fmt/format.h>

#include <limits>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "core/scale_arguments.h"
#include "cpu/quantize.h"
#include "cuda/quantize.h"

namespace quire {
namespace {

using check::Arg;

void check_matrix(const Arg& matrix, bool is_output) {
  check::rank(matrix, 2);
  check::last_dim_contiguous(matrix);
  check::memory(matrix, is_output);
}

void check_pair(const Arg& input, const Arg& out) {
  check_matrix(input, false);
  check_matrix(out, true);
  check::same_shape(out, input);
  check::device(out, input);
}

// The block with its whole-row form resolved.
ScaleBlock checked_block(const char* op, const ScaleBlock& block, std::int64_t cols) {
  if (block.rows < 1 || block.cols < 0) {
    check::fail(op, "block", fmt::format("{} x {}", block.rows, block.cols),
                "1 row or more, and 0 columns or more");
  }
  ScaleBlock result = block;
  if (block.cols == 0 || block.cols > cols) result.cols = static_cast<int>(cols);
  return result;
}

// scales is [ceil(rows / block.rows), ceil(cols / block.cols)].
void check_block_scales(const Arg& scales, const Arg& matrix, const ScaleBlock& block) {
  const std::int64_t rows = matrix.tensor.shape[0], cols = matrix.tensor.shape[1];
  check::rank(scales, 2);
  check::dim(scales, 0, (rows + block.rows - 1) / block.rows,
             fmt::format("blocks of {} rows", block.rows));
  check::dim(scales, 1, cols == 0 ? 0 : (cols + block.cols - 1) / block.cols,
             fmt::format("blocks of {} columns", block.cols));
}

}  // namespace

void quantize_fp8(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                  const ScaleBlock& block, Stream stream) {
  constexpr const char* kOp = "quantize_fp8";
  const Arg in_arg{kOp, "input", input}, out_arg{kOp, "out", out};
  check_pair(in_arg, out_arg);
  check::dtype(in_arg, {DType::f32, DType::f16, DType::bf16});
  const check::ScaleParams scaling = check::fp8_scale(out_arg, scale);
  kernels::QuantizeParams p{};
  p.input = input.data;
  p.out = out.data;
  p.input_stride = rows::step(input, 0);
  p.out_stride = rows::step(out, 0);
  p.rows = rows::count(in_arg, input.shape[0], "rows");
  p.cols = rows::count(in_arg, input.shape[1], "columns");
  p.given_scale = scaling.given;
  p.scale_value = scaling.value;
  p.tile_rows = 1;
  p.tile_cols = p.cols;
  if (scaling.computed != nullptr || scale.kind() == Fp8Scale::Kind::computed) {
    const ScaleBlock tile = checked_block(kOp, block, p.cols);
    check_block_scales({kOp, "scales", scale.tensor()}, in_arg, tile);
    p.tile_rows = tile.rows;
    p.tile_cols = tile.cols;
    p.computed_scales = scaling.computed;
    p.scale_row_stride = rows::step(scale.tensor(), 0);
    p.scale_col_stride = rows::step(scale.tensor(), 1);
    p.power_of_two = scaling.power_of_two;
  }
  if (input.numel() == 0) return;
  p.tiles_across = (p.cols - 1) / p.tile_cols + 1;
  p.num_tiles = std::int64_t{p.tiles_across} * ((p.rows - 1) / p.tile_rows + 1);
  rows::count(in_arg, p.num_tiles, "blocks");
  rows::count(in_arg, std::int64_t{p.tile_rows} * p.tile_cols, "elements a block");
  const kernels::QuantizeConfig config{.dtype = check::to_kernel(input.dtype),
                                       .out_dtype = check::to_kernel(out.dtype),
                                       .scaling = scaling.scaling};
  dispatch(
      kOp, input.device, [&] { cpu::quantize(config, p); },
      [&] { cuda::quantize(config, p, input.device.index, stream); });
}

void dequantize_fp8(const TensorView& input, const TensorView& out, const Fp8Scale& scale,
                    const ScaleBlock& block, Stream stream) {
  constexpr const char* kOp = "dequantize_fp8";
  const Arg in_arg{kOp, "input", input}, out_arg{kOp, "out", out};
  check_pair(in_arg, out_arg);
  check::dtype(in_arg, {DType::f8e4m3, DType::f8e5m2});
  check::dtype(out_arg, {DType::f32, DType::f16, DType::bf16});
  kernels::DequantizeParams p{};
  p.input = input.data;
  p.out = out.data;
  p.input_stride = rows::step(input, 0);
  p.out_stride = rows::step(out, 0);
  p.rows = rows::count(in_arg, input.shape[0], "rows");
  p.cols = rows::count(in_arg, input.shape[1], "columns");
  p.tile_rows = p.tile_cols = std::numeric_limits<std::int32_t>::max();
  if (scale.kind() == Fp8Scale::Kind::number) {
    check::finite_positive(kOp, "scale", scale.number());
    p.scale_value = scale.number();
  } else if (scale.kind() == Fp8Scale::Kind::computed) {
    check::fail(kOp, "scale", "computed scales", "given ones");
  } else {
    const Arg scales{kOp, "scale", scale.tensor()};
    check::dtype(scales, {DType::f32});
    check::device(scales, in_arg);
    check::memory(scales);
    p.scales = static_cast<const float*>(scale.tensor().data);
    if (scale.tensor().rank == 2) {
      const ScaleBlock tile = checked_block(kOp, block, p.cols);
      check_block_scales(scales, in_arg, tile);
      p.tile_rows = tile.rows;
      p.tile_cols = tile.cols;
      p.scale_row_stride = rows::step(scale.tensor(), 0);
      p.scale_col_stride = rows::step(scale.tensor(), 1);
    } else if (scale.tensor().numel() != 1) {
      check::fail(kOp, "scale", to_string(scale.tensor()), "one element, or rank 2");
    }
  }
  if (input.numel() == 0) return;
  const kernels::DequantizeConfig config{.dtype = check::to_kernel(input.dtype),
                                         .out_dtype = check::to_kernel(out.dtype)};
  dispatch(
      kOp, input.device, [&] { cpu::dequantize(config, p); },
      [&] { cuda::dequantize(config, p, input.device.index, stream); });
}

}  // namespace quire
