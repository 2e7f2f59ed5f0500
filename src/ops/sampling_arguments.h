// Argument checks that softmax, argmax and the samplers share.
#pragma once

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

}  // namespace quire::sampling
