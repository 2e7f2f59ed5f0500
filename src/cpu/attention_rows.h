// What the items and the merges of CPU attention share: where rows are, which tokens they see, how
// a finished row is written.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/attention_types.h"
#include "cpu/attention_simd.h"

namespace quire::cpu {

inline constexpr float kNegInf = -std::numeric_limits<float>::infinity();
inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

inline DType to_dtype(kernels::DType dtype) { return static_cast<DType>(dtype); }

// Element `index` of an array of `dtype`.
inline const std::byte* element(const void* data, kernels::DType dtype, std::int64_t index) {
  return static_cast<const std::byte*>(data) + index * kernels::size_bytes(dtype);
}

// A packed row of a request and KV head, by its token and its qo head.
struct RowPosition {
  std::int64_t token;  // row of q, out and lse
  std::int64_t head;
};

inline RowPosition row_position(const kernels::AttentionParams& p, std::int32_t request,
                                std::int32_t kv_head, std::int64_t packed_row) {
  return {p.qo_indptr[request] + packed_row / p.group_size,
          std::int64_t{kv_head} * p.group_size + packed_row % p.group_size};
}

// The last step of a row. o: normalised over its tokens, changed in place; lse: natural, without
// the sink. A sink takes its share of the sum and has no value row.
inline void write_row(const kernels::AttentionConfig& c, const kernels::AttentionParams& p,
                      RowPosition row, float* o, float lse) {
  float factor = p.v_scale;
  if (p.v_scales != nullptr) factor *= p.v_scales[row.head / p.group_size];
  if (p.sinks != nullptr) {
    const float sink = p.sinks[row.head];
    const float largest = std::max(lse, sink);
    if (largest != kNegInf) {
      const float total = largest + std::log(std::exp(lse - largest) + std::exp(sink - largest));
      factor *= std::exp(lse - total);
      lse = total;
    }
  }
  if (factor != 1.f) simd::scale(o, c.head_dim_vo, factor);
  auto* out = static_cast<std::byte*>(p.out) +
              (row.token * p.out_token_stride + row.head * p.out_head_stride) *
                  kernels::size_bytes(c.o_dtype);
  simd::from_float(to_dtype(c.o_dtype), o, c.head_dim_vo, out);
  if (p.lse != nullptr) {
    p.lse[row.token * p.num_qo_heads + row.head] = p.lse_base_e ? lse : lse * kLog2e;
  }
}

}  // namespace quire::cpu
