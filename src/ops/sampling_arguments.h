// Argument checks that softmax, argmax and the samplers share.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <type_traits>

#include "core/check.h"
#include "core/rows.h"
#include "quire/sampling.h"
#include "sampling/sampling_types.h"

namespace quire::sampling {

// [rows, vocab] with a contiguous last dimension.
inline void check_distribution(const check::Arg& arg, bool is_output = false) {
  check::rank(arg, 2);
  check::last_dim_contiguous(arg);
  check::memory(arg, is_output);
  const std::int64_t vocab = arg.tensor.shape[1];
  if (vocab >= 1 && vocab <= kernels::kMaxVocab) return;
  check::fail(arg.op, arg.name, "a vocabulary of " + std::to_string(vocab),
              "1 to " + std::to_string(kernels::kMaxVocab));
}

inline kernels::RowsIn rows_in(const check::Arg& arg) {
  return {arg.tensor.data, rows::step(arg.tensor, 0), rows::count(arg, arg.tensor.shape[0], "rows"),
          static_cast<int>(arg.tensor.shape[1])};
}

// One element a row, at any stride, on the device of `like`.
inline void check_per_row(const check::Arg& arg, std::int64_t rows, const check::Arg& like,
                          bool is_output = false) {
  check::rank(arg, 1);
  check::dim(arg, 0, rows, "one element a row");
  check::device(arg, like);
  check::memory(arg, is_output);
}

// The value as the kernels take it. Checks its tensor, if there is one; a single value is the
// caller's to check.
template <class T>
kernels::RowValue<std::conditional_t<sizeof(T) == 8, kernels::i64, T>> row_value(
    std::string_view name, const PerRow<T>& value, std::int64_t rows, const check::Arg& like) {
  using Value = std::conditional_t<sizeof(T) == 8, kernels::i64, T>;
  if (!value.tensor) return {nullptr, 0, static_cast<Value>(value.value)};
  const check::Arg arg{like.op, name, *value.tensor};
  check::dtype(arg, {std::is_same_v<T, float> ? DType::f32
                     : sizeof(T) == 8         ? DType::i64
                                              : DType::i32});
  check_per_row(arg, rows, like);
  return {static_cast<const Value*>(arg.tensor.data), rows::step(arg.tensor, 0), Value{}};
}

inline kernels::RowValue<float> check_temperature(const PerRow<float>& value, std::int64_t rows,
                                                  const check::Arg& like) {
  if (!value.tensor && !kernels::is_temperature(value.value)) {
    check::fail(like.op, "temperature", fmt::format("{}", value.value),
                "a finite number, 0 or above");
  }
  return row_value("temperature", value, rows, like);
}

inline kernels::RowValue<float> check_fraction(std::string_view name, const PerRow<float>& value,
                                               std::int64_t rows, const check::Arg& like) {
  if (!value.tensor && !(value.value >= 0.f && value.value <= 1.f)) {
    check::fail(like.op, name, fmt::format("{}", value.value), "a number from 0 to 1");
  }
  return row_value(name, value, rows, like);
}

inline kernels::FilterParams check_filter(const TokenFilter& filter, std::int64_t rows,
                                          const check::Arg& like) {
  return {row_value("top_k", filter.top_k, rows, like),
          check_fraction("top_p", filter.top_p, rows, like),
          check_fraction("min_p", filter.min_p, rows, like),
          filter.order == FilterOrder::joint ? 1 : 0};
}

// All arguments of a sampler but the dtype of `in` and the temperature.
kernels::SampleParams check_sample(const check::Arg& in, const TensorView& ids,
                                   const TokenFilter& filter, const SamplingOptions& options);

}  // namespace quire::sampling
