#include "cpu/attention_simd.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_simd.cpp"
#include "hwy/foreach_target.h"  // compiles this file once a target; must come first

#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"

#include "core/numeric.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// Never more lanes than the 16 that divide every head_dim.
using FloatTag = hn::CappedTag<float, 16>;

void bf16_to_float(const std::uint16_t* src, std::int64_t n, float* dst) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du32;
  const hn::Rebind<std::uint16_t, FloatTag> du16;
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto bits = hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, src + i)));
    hn::StoreU(hn::BitCast(d, bits), d, dst + i);
  }
}

void f16_to_float(const std::uint16_t* src, std::int64_t n, float* dst) {
  const FloatTag d;
  const hn::Rebind<hwy::float16_t, FloatTag> df16;
  const hn::Rebind<std::uint16_t, FloatTag> du16;
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto half = hn::BitCast(df16, hn::LoadU(du16, src + i));
    hn::StoreU(hn::PromoteTo(d, half), d, dst + i);
  }
}

// Accumulators live in registers: 4 rows by 2 tokens.
template <int rows, int tokens>
HWY_INLINE void dot_block(const float* q, const float* k, int dim, float* scores, int stride) {
  const FloatTag d;
  using V = hn::Vec<FloatTag>;
  V acc[rows][tokens];
  for (auto& row : acc) {
    for (V& x : row) x = hn::Zero(d);
  }
  for (int i = 0; i < dim; i += static_cast<int>(hn::Lanes(d))) {
    V kv[tokens];
    for (int t = 0; t < tokens; ++t) kv[t] = hn::LoadU(d, k + t * dim + i);
    for (int r = 0; r < rows; ++r) {
      const V qv = hn::LoadU(d, q + r * dim + i);
      for (int t = 0; t < tokens; ++t) acc[r][t] = hn::MulAdd(qv, kv[t], acc[r][t]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < tokens; ++t) {
      scores[r * stride + t] = hn::GetLane(hn::SumOfLanes(d, acc[r][t]));
    }
  }
}

void dot_rows(const float* q, int num_rows, const float* k, int num_tokens, int dim, float* scores,
              int stride) {
  int r = 0;
  for (; r + 4 <= num_rows; r += 4) {
    int t = 0;
    for (; t + 2 <= num_tokens; t += 2) {
      dot_block<4, 2>(q + r * dim, k + t * dim, dim, scores + r * stride + t, stride);
    }
    if (t < num_tokens) {
      dot_block<4, 1>(q + r * dim, k + t * dim, dim, scores + r * stride + t, stride);
    }
  }
  for (; r < num_rows; ++r) {
    int t = 0;
    for (; t + 4 <= num_tokens; t += 4) {
      dot_block<1, 4>(q + r * dim, k + t * dim, dim, scores + r * stride + t, stride);
    }
    for (; t < num_tokens; ++t) {
      dot_block<1, 1>(q + r * dim, k + t * dim, dim, scores + r * stride + t, stride);
    }
  }
}

template <int rows>
HWY_INLINE void add_weighted_block(const float* p, int stride, const float* v, int num_tokens,
                                   int dim, float* out) {
  const FloatTag d;
  using V = hn::Vec<FloatTag>;
  for (int i = 0; i < dim; i += static_cast<int>(hn::Lanes(d))) {
    V acc[rows];
    for (int r = 0; r < rows; ++r) acc[r] = hn::LoadU(d, out + r * dim + i);
    for (int t = 0; t < num_tokens; ++t) {
      const V value = hn::LoadU(d, v + t * dim + i);
      for (int r = 0; r < rows; ++r) {
        acc[r] = hn::MulAdd(hn::Set(d, p[r * stride + t]), value, acc[r]);
      }
    }
    for (int r = 0; r < rows; ++r) hn::StoreU(acc[r], d, out + r * dim + i);
  }
}

void add_weighted_rows(const float* p, int num_rows, int stride, const float* v, int num_tokens,
                       int dim, float* out) {
  int r = 0;
  for (; r + 8 <= num_rows; r += 8) {
    add_weighted_block<8>(p + r * stride, stride, v, num_tokens, dim, out + r * dim);
  }
  for (; r + 4 <= num_rows; r += 4) {
    add_weighted_block<4>(p + r * stride, stride, v, num_tokens, dim, out + r * dim);
  }
  for (; r < num_rows; ++r) {
    add_weighted_block<1>(p + r * stride, stride, v, num_tokens, dim, out + r * dim);
  }
}

// Applies `f` to every element, also to a tail shorter than a vector.
template <class F>
HWY_INLINE void map(float* x, std::int64_t n, F&& f) {
  const FloatTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(d, hn::LoadU(d, x + i)), d, x + i);
  if (i == n) return;
  float tail[16] = {};
  std::copy(x + i, x + n, tail);
  hn::StoreU(f(d, hn::LoadU(d, tail)), d, tail);
  std::copy(tail, tail + (n - i), x + i);
}

void scale(float* x, std::int64_t n, float factor) {
  map(x, n, [factor](auto d, auto v) { return hn::Mul(v, hn::Set(d, factor)); });
}

// Highway's functions are not specified for NaN, so it is put back.
void soft_cap(float* x, std::int64_t n, float cap) {
  map(x, n, [cap](auto d, auto v) {
    const auto y = hn::Mul(hn::Tanh(d, hn::Div(v, hn::Set(d, cap))), hn::Set(d, cap));
    return hn::IfThenElse(hn::IsNaN(v), v, y);
  });
}

void exp_minus(float* x, std::int64_t n, float shift) {
  map(x, n, [shift](auto d, auto v) {
    const auto y = hn::Sub(v, hn::Set(d, shift));
    // Below -104 the result is 0 anyway; -inf itself would overflow inside.
    const auto e = hn::Exp(d, hn::Max(y, hn::Set(d, -200.f)));
    return hn::IfThenElse(hn::IsNaN(y), y, e);
  });
}

}  // namespace quire::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu::simd {

HWY_EXPORT(bf16_to_float);
HWY_EXPORT(f16_to_float);
HWY_EXPORT(dot_rows);
HWY_EXPORT(add_weighted_rows);
HWY_EXPORT(scale);
HWY_EXPORT(soft_cap);
HWY_EXPORT(exp_minus);

namespace {

using ByteTable = std::array<float, 256>;

template <class Format>
ByteTable decode_all() {
  ByteTable table;
  for (std::uint32_t x = 0; x < 256; ++x) table[x] = Format::decode(x);
  return table;
}

void bytes_to_float(const ByteTable& table, const void* src, std::int64_t n, float* dst) {
  const auto* bytes = static_cast<const std::uint8_t*>(src);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = table[bytes[i]];
}

}  // namespace

void to_float(DType dtype, const void* src, std::int64_t n, float* dst) {
  static const ByteTable e4m3 = decode_all<numeric::E4m3>();
  static const ByteTable e5m2 = decode_all<numeric::E5m2>();
  switch (dtype) {
    case DType::bf16:
      return HWY_DYNAMIC_DISPATCH(bf16_to_float)(static_cast<const std::uint16_t*>(src), n, dst);
    case DType::f16:
      return HWY_DYNAMIC_DISPATCH(f16_to_float)(static_cast<const std::uint16_t*>(src), n, dst);
    case DType::f8e4m3:
      return bytes_to_float(e4m3, src, n, dst);
    case DType::f8e5m2:
      return bytes_to_float(e5m2, src, n, dst);
    default:
      std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
  }
}

void from_float(DType dtype, const float* src, std::int64_t n, void* dst) {
  if (dtype == DType::f32) {
    std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
  } else if (dtype == DType::bf16) {
    auto* out = static_cast<std::uint16_t*>(dst);
    for (std::int64_t i = 0; i < n; ++i) out[i] = numeric::float_to_bf16(src[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) numeric::store(dst, dtype, i, src[i]);
  }
}

void dot_rows(const float* q, int num_rows, const float* k, int num_tokens, int dim, float* scores,
              int stride) {
  HWY_DYNAMIC_DISPATCH(dot_rows)(q, num_rows, k, num_tokens, dim, scores, stride);
}

void add_weighted_rows(const float* p, int num_rows, int stride, const float* v, int num_tokens,
                       int dim, float* out) {
  HWY_DYNAMIC_DISPATCH(add_weighted_rows)(p, num_rows, stride, v, num_tokens, dim, out);
}

void scale(float* x, std::int64_t n, float factor) { HWY_DYNAMIC_DISPATCH(scale)(x, n, factor); }

void soft_cap(float* x, std::int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(soft_cap)(x, n, cap); }

void exp_minus(float* x, std::int64_t n, float shift) {
  HWY_DYNAMIC_DISPATCH(exp_minus)(x, n, shift);
}

}  // namespace quire::cpu::simd
#endif
