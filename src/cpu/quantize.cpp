#include "cpu/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::QuantizeConfig;
using kernels::QuantizeParams;
using kernels::Scaling;

// Calls use(x, row, column, n) for every piece of a tile's rows.
template <class Use>
void for_pieces(const QuantizeConfig& config, const QuantizeParams& p, std::int64_t row,
                std::int64_t col, Use&& use) {
  const std::int64_t rows_end = std::min<std::int64_t>(p.rows, row + p.tile_rows);
  const auto width = static_cast<int>(std::min<std::int64_t>(p.tile_cols, p.cols - col));
  float x[kRowPiece];
  for (std::int64_t r = row; r < rows_end; ++r) {
    for_each_piece(width, [&](int begin, int n) {
      load_row(x, p.input, config.dtype, r * p.input_stride + col + begin, n);
      use(x, r, col + begin, n);
    });
  }
}

void quantize_tile(const QuantizeConfig& config, const QuantizeParams& p, std::int64_t tile) {
  const std::int64_t down = tile / p.tiles_across, across = tile % p.tiles_across;
  const std::int64_t row = down * p.tile_rows, col = across * p.tile_cols;
  float scale = p.given_scale != nullptr ? *p.given_scale : p.scale_value;
  if (config.scaling == Scaling::computed) {
    float amax = 0;
    for_pieces(config, p, row, col, [&](const float* x, std::int64_t, std::int64_t, int n) {
      for (int i = 0; i < n; ++i) amax = std::fmax(amax, std::fabs(x[i]));
    });
    scale = kernels::fp8_scale(amax, config.out_dtype, p.power_of_two);
    p.computed_scales[down * p.scale_row_stride + across * p.scale_col_stride] = scale;
  }
  const float inverse = 1.f / scale;
  for_pieces(config, p, row, col, [&](float* x, std::int64_t r, std::int64_t at, int n) {
    for (int i = 0; i < n; ++i) x[i] *= inverse;
    store_row(p.out, config.out_dtype, r * p.out_stride + at, x, n);
  });
}

}  // namespace

void quantize(const QuantizeConfig& config, const QuantizeParams& p) {
  const std::int64_t elements = std::int64_t{p.rows} * p.cols;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int64_t tile = 0; tile < p.num_tiles; ++tile) quantize_tile(config, p, tile);
}

void dequantize(const kernels::DequantizeConfig& config, const kernels::DequantizeParams& p) {
  const std::int64_t elements = std::int64_t{p.rows} * p.cols;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) {
    float x[kRowPiece];
    for_each_piece(p.cols, [&](int begin, int n) {
      load_row(x, p.input, config.dtype, row * p.input_stride + begin, n);
      for (int i = 0; i < n; ++i) {
        x[i] *= p.scales != nullptr ? p.scales[row / p.tile_rows * p.scale_row_stride +
                                               (begin + i) / p.tile_cols * p.scale_col_stride]
                                    : p.scale_value;
      }
      store_row(p.out, config.out_dtype, row * p.out_stride + begin, x, n);
    });
  }
}

void packbits(const kernels::PackConfig& config, const kernels::PackParams& p) {
#pragma omp parallel for schedule(static) if (p.num_elements >= kMinParallelElements)
  for (std::int64_t at = 0; at < p.num_bytes; ++at) {
    p.out[at] = packed_byte(p, at, config.big_endian);
  }
}

}  // namespace quire::cpu
