#include "cpu/nvfp4_kv.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/numeric.h"
#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::kNvfp4Block;
using kernels::Nvfp4Config;
using kernels::Nvfp4Params;
using kernels::Nvfp4Row;

Nvfp4Row find_row(const Nvfp4Config& config, const Nvfp4Params& p, std::int32_t row) {
  if (!config.paged) return kernels::flat_row(p, row);
  return config.index_dtype == kernels::DType::i64 ? kernels::paged_row<std::int64_t>(p, row)
                                                   : kernels::paged_row<std::int32_t>(p, row);
}

float global_scale(const Nvfp4Params& p) {
  return p.global_scale != nullptr ? *p.global_scale : p.global_value;
}

// The nearest code, ties to even; beyond 6, and for NaN, the largest. Without branches: the sum
// with 2^22 times the power of two below the magnitude, or 2^22, counts halves of that power.
constexpr std::uint32_t e2m1_code(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x), magnitude = bits & 0x7fffffffu;
  const std::uint32_t sign = magnitude > 0x7f800000u ? 0 : bits >> 28 & 8;
  const std::uint32_t limited = magnitude < 0x40c00000u ? magnitude : 0x40c00000u;  // 6
  constexpr std::uint32_t kOne = 127u << 23;
  const std::uint32_t exponent = (limited > kOne ? limited : kOne) & 0x7f800000u;
  const std::uint32_t unit = exponent + (22u << 23);
  const float sum = std::bit_cast<float>(limited) + std::bit_cast<float>(unit);
  return sign | (std::bit_cast<std::uint32_t>(sum) - unit + ((exponent - kOne) >> 22));
}

}  // namespace

void nvfp4_kv_dequantize(const Nvfp4Config& config, const Nvfp4Params& p) {
  const std::int64_t elements = std::int64_t{p.rows} * p.cols;
  const float global = global_scale(p);
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) {
    const Nvfp4Row at = find_row(config, p, row);
    if (at.data < 0) continue;
    float x[kNvfp4Block];
    for (int block = 0; block < p.cols / kNvfp4Block; ++block) {
      const float scale = numeric::E4m3::decode(p.block_scales[at.scales + block]);
      for (int i = 0; i < kNvfp4Block; ++i) {
        const std::uint32_t pair = p.data[at.data + (block * kNvfp4Block + i) / 2];
        x[i] = kernels::e2m1_value(pair >> (i % 2 * 4)) * scale * global;
      }
      store_row(p.wide_out, config.dtype, at.wide + block * kNvfp4Block, x, kNvfp4Block);
    }
  }
}

void nvfp4_kv_quantize(const Nvfp4Config& config, const Nvfp4Params& p) {
  const std::int64_t elements = std::int64_t{p.rows} * p.cols;
  const float global = global_scale(p);
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) {
    const Nvfp4Row at = kernels::flat_row(p, row);
    float x[kNvfp4Block];
    for (int block = 0; block < p.cols / kNvfp4Block; ++block) {
      load_row(x, p.wide_in, config.dtype, at.wide + block * kNvfp4Block, kNvfp4Block);
      float amax = 0;
      for (const float element : x) amax = std::fmax(amax, std::fabs(element));
      const std::uint32_t scale =
          numeric::E4m3::encode(kernels::nvfp4_block_scale(amax, global), /*saturate=*/true);
      const float inverse = kernels::nvfp4_inverse(numeric::E4m3::decode(scale), global);
      const auto code = [&](int i) { return inverse == 0 ? 0 : e2m1_code(x[i] * inverse); };
      for (int i = 0; i < kNvfp4Block; i += 2) {
        p.data[at.data + (block * kNvfp4Block + i) / 2] =
            static_cast<std::uint8_t>(code(i) | code(i + 1) << 4);
      }
      p.block_scales[at.scales + block] = static_cast<std::uint8_t>(scale);
    }
  }
}

}  // namespace quire::cpu
