#include "cpu/activation.h"

#include <cmath>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

void silu_row(const kernels::SiluAndMulConfig& config, const kernels::SiluAndMulParams& p,
              std::int32_t row) {
  std::int64_t input = 0, out = 0;
  for (int d = p.num_leading_dims - 1; d >= 0; --d) {
    const std::int32_t index = row % p.leading_shape[d];
    row /= p.leading_shape[d];
    input += index * p.input_strides[d];
    out += index * p.out_strides[d];
  }
  float gate[kRowPiece], up[kRowPiece];
  for_each_piece(p.hidden, [&](int begin, int n) {
    load_row(gate, p.input, config.dtype, input + begin, n);
    load_row(up, p.input, config.dtype, input + p.hidden + begin, n);
    for (int i = 0; i < n; ++i) gate[i] = gate[i] / (1.f + std::exp(-gate[i])) * up[i];
    store_row(p.out, config.dtype, out + begin, gate, n);
  });
}

}  // namespace

void silu_and_mul(const kernels::SiluAndMulConfig& config, const kernels::SiluAndMulParams& p) {
  const std::int64_t elements = static_cast<std::int64_t>(p.rows) * p.hidden;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t row = 0; row < p.rows; ++row) silu_row(config, p, row);
}

}  // namespace quire::cpu
