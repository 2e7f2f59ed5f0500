#include "cpu/rope.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/rows.h"

namespace quire::cpu {
namespace {

using kernels::DType;
using kernels::kMaxRotaryDim;
using kernels::PageSlot;
using kernels::RopeConfig;
using kernels::RopeParams;
using kernels::RopeSide;

struct RopeTable {
  float cosine[kMaxRotaryDim / 2];
  float sine[kMaxRotaryDim / 2];
};

void fill_table(RopeTable& table, const RopeConfig& config, const RopeParams& p,
                std::int64_t token) {
  const std::int64_t position =
      config.pos_dtype == DType::i64
          ? kernels::rope_position<kernels::i64>(p, config.positions, token)
          : kernels::rope_position<kernels::i32>(p, config.positions, token);
  const int pairs = p.rotary_dim / 2;
  if (config.cached) {
    load_row(table.cosine, p.cos_sin_cache, config.cache_dtype, position * p.cache_stride, pairs);
    load_row(table.sine, p.cos_sin_cache, config.cache_dtype, position * p.cache_stride + pairs,
             pairs);
    return;
  }
  for (int i = 0; i < pairs; ++i) {
    const float angle = static_cast<float>(position) * p.inv_freq[i];
    // In double: a float sine of a large angle may be slow or inexact, depending on the C library.
    table.cosine[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * p.table_factor;
    table.sine[i] = static_cast<float>(std::sin(static_cast<double>(angle))) * p.table_factor;
  }
}

void rotate(float* y, const float* x, int rotary_dim, bool interleave, const RopeTable& table) {
  const int pairs = rotary_dim / 2;
  for (int i = 0; i < pairs; ++i) {
    const int a = interleave ? 2 * i : i, b = interleave ? 2 * i + 1 : i + pairs;
    y[a] = x[a] * table.cosine[i] - x[b] * table.sine[i];
    y[b] = x[b] * table.cosine[i] + x[a] * table.sine[i];
  }
}

// One head, from element `in` to element `out`.
void write_head(const RopeConfig& config, const RopeTable& table, const RopeSide& side,
                DType out_dtype, int head, std::int64_t in, std::int64_t out) {
  float x[kRowPiece], y[kMaxRotaryDim];
  const bool is_fp8 = kernels::is_fp8(out_dtype);
  const float factor = !is_fp8                  ? 1
                       : side.scales != nullptr ? 1.f / side.scales[head * side.scale_head_stride]
                                                : side.factor;
  load_row(x, side.in, config.dtype, in, side.rotary_dim);
  rotate(y, x, side.rotary_dim, config.interleave, table);
  if (is_fp8) {
    for (int i = 0; i < side.rotary_dim; ++i) y[i] *= factor;
  }
  store_row(side.out, out_dtype, out, y, side.rotary_dim);
  const int rest = side.head_dim - side.rotary_dim;
  if (!is_fp8) {
    const std::int64_t element = kernels::size_bytes(config.dtype);
    std::memmove(static_cast<std::uint8_t*>(side.out) + (out + side.rotary_dim) * element,
                 static_cast<const std::uint8_t*>(side.in) + (in + side.rotary_dim) * element,
                 static_cast<std::size_t>(rest * element));
    return;
  }
  for_each_piece(rest, [&](int begin, int n) {
    load_row(x, side.in, config.dtype, in + side.rotary_dim + begin, n);
    for (int i = 0; i < n; ++i) x[i] *= factor;
    store_row(side.out, out_dtype, out + side.rotary_dim + begin, x, n);
  });
}

void write_side(const RopeConfig& config, const RopeTable& table, const RopeSide& side,
                DType out_dtype, std::int64_t token, PageSlot to) {
  if (side.paged && to.page < 0) return;
  const std::int64_t out = side.paged
                               ? to.page * side.out_page_stride + to.slot * side.out_token_stride
                               : token * side.out_token_stride;
  for (int head = 0; head < side.num_heads; ++head) {
    write_head(config, table, side, out_dtype, head,
               token * side.in_token_stride + head * side.in_head_stride,
               out + head * side.out_head_stride);
  }
}

}  // namespace

void rope(const RopeConfig& config, const RopeParams& p) {
  std::int64_t elements = 0;
  for (const RopeSide& side : p.sides) elements += std::int64_t{side.num_heads} * side.head_dim;
#pragma omp parallel for schedule(static) if (p.nnz * elements >= kMinParallelElements)
  for (std::int32_t token = 0; token < p.nnz; ++token) {
    RopeTable table;
    fill_table(table, config, p, token);
    PageSlot to{-1, 0};
    if (p.any_paged && token < p.to.nnz) to = find_page_slot(p.to, token);
    for (int s = 0; s < kernels::kRopeSides; ++s) {
      const bool is_query = s < kernels::kRopeQuerySides;
      write_side(config, table, p.sides[s], is_query ? config.q_out_dtype : config.k_out_dtype,
                 token, to);
    }
  }
}

}  // namespace quire::cpu
