// Argument checks of every operator. Each throws quire::Error, text
// `op: argument: got X, expected Y`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "dtype.h"
#include "quire/error.h"
#include "quire/tensor.h"

namespace quire::check {

// Names of the operator and the argument being checked, and the argument.
struct Arg {
  std::string_view op;
  std::string_view name;
  const TensorView& tensor;
};

[[noreturn]] void fail(std::string_view op, std::string_view argument, const std::string& got,
                       const std::string& expected, ErrorCode code = ErrorCode::invalid_argument);

void rank(const Arg& arg, int expected);
void rank_at_least(const Arg& arg, int expected);
void dim(const Arg& arg, int index, std::int64_t expected, std::string_view meaning);
void dtype(const Arg& arg, std::initializer_list<DType> allowed);
void last_dim_contiguous(const Arg& arg);
void contiguous(const Arg& arg);
void device(const Arg& arg, const Arg& like);  // names both arguments and both devices
void same_shape(const Arg& arg, const Arg& like);
// Non-null when it has elements, aligned to its element size, all sizes non-negative, and no
// element written twice (stride 0) when `is_output`.
void memory(const Arg& arg, bool is_output = false);
void finite_positive(std::string_view op, std::string_view argument, double value);

// True when data and every stride but the last are multiples of `bytes`.
bool rows_aligned(const TensorView& tensor, int bytes);

inline kernels::DType to_kernel(DType dtype) { return static_cast<kernels::DType>(dtype); }
static_assert(static_cast<int>(DType::boolean) == static_cast<int>(kernels::DType::boolean));

}  // namespace quire::check
