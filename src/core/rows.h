// What the operators that walk over rows need beside check.h.
#pragma once

#include <cstdint>

#include "core/check.h"

namespace quire::rows {

// How far index + 1 of `dim` is, in elements. 0 for a dimension of one element, whose stride means
// nothing and must not spoil the choice of a wide access.
inline std::int64_t step(const TensorView& tensor, int dim) {
  return tensor.shape[dim] > 1 ? tensor.strides[dim] : 0;
}

inline std::int64_t step_bytes(const TensorView& tensor, int dim) {
  return step(tensor, dim) * static_cast<std::int64_t>(size_bytes(tensor.dtype));
}

// A size as the 32 bits that kernels count in; an error naming the tensor when it needs more.
std::int32_t count(const check::Arg& arg, std::int64_t size, std::string_view meaning);

// A view with a dimension of one element before dimension `at`.
TensorView with_dim(const TensorView& tensor, int at);

// An output may be the input itself, by the same strides; a view of the same memory by others would
// be read after it was overwritten. Partial overlap is not looked for: it is the caller's mistake.
void in_place_or_apart(const check::Arg& out, const check::Arg& in);

}  // namespace quire::rows
