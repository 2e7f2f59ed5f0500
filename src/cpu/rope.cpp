#include "cpu/rope.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::kMaxRotaryDim;
using kernels::RopeConfig;
using kernels::RopeParams;
using kernels::RopeSide;

struct RopeTable {
  float cosine[kMaxRotaryDim / 2];
  float sine[kMaxRotaryDim / 2];
};

void fill_table(RopeTable& table, const RopeConfig& config, const RopeParams& p,
                std::int64_t token) {
  const std::int64_t at = token * p.pos_ids_stride;
  const float position = config.pos_dtype == DType::i64
                             ? static_cast<float>(static_cast<const std::int64_t*>(p.pos_ids)[at])
                             : static_cast<float>(static_cast<const std::int32_t*>(p.pos_ids)[at]);
  for (int i = 0; i < p.rotary_dim / 2; ++i) {
    const float angle = position * p.inv_freq[i];
    // In double: a float sine of a large angle may be slow or inexact, depending on the C library.
    table.cosine[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    table.sine[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

void rotate_head(const RopeConfig& config, const RopeParams& p, const RopeTable& table,
                 const RopeSide& side, std::int64_t token, int head) {
  const std::int64_t in = token * side.in_token_stride + head * side.in_head_stride;
  const std::int64_t out = token * side.out_token_stride + head * side.out_head_stride;
  const int pairs = p.rotary_dim / 2;
  float x[kMaxRotaryDim], y[kMaxRotaryDim];
  load_row(x, side.in, config.dtype, in, p.rotary_dim);
  if (config.interleave) {
    for (int i = 0; i < pairs; ++i) {
      y[2 * i] = x[2 * i] * table.cosine[i] - x[2 * i + 1] * table.sine[i];
      y[2 * i + 1] = x[2 * i + 1] * table.cosine[i] + x[2 * i] * table.sine[i];
    }
  } else {
    for (int i = 0; i < pairs; ++i) {
      y[i] = x[i] * table.cosine[i] - x[i + pairs] * table.sine[i];
      y[i + pairs] = x[i + pairs] * table.cosine[i] + x[i] * table.sine[i];
    }
  }
  store_row(side.out, config.dtype, out, y, p.rotary_dim);
  const std::int64_t element = kernels::size_bytes(config.dtype);
  std::memmove(static_cast<std::uint8_t*>(side.out) + (out + p.rotary_dim) * element,
               static_cast<const std::uint8_t*>(side.in) + (in + p.rotary_dim) * element,
               static_cast<std::size_t>((p.head_dim - p.rotary_dim) * element));
}

}  // namespace

void rope(const RopeConfig& config, const RopeParams& p) {
  const std::int64_t elements =
      static_cast<std::int64_t>(p.nnz) * (p.q.num_heads + p.k.num_heads) * p.head_dim;
#pragma omp parallel for schedule(static) if (elements >= kMinParallelElements)
  for (std::int32_t token = 0; token < p.nnz; ++token) {
    RopeTable table;
    fill_table(table, config, p, token);
    for (int h = 0; h < p.q.num_heads; ++h) rotate_head(config, p, table, p.q, token, h);
    for (int h = 0; h < p.k.num_heads; ++h) rotate_head(config, p, table, p.k, token, h);
  }
}

}  // namespace quire::cpu
