#include "core/rows.h"

#include <limits>

namespace quire::rows {

std::int32_t count(const check::Arg& arg, std::int64_t size, std::string_view meaning) {
  if (size > std::numeric_limits<std::int32_t>::max()) {
    check::fail(arg.op, arg.name, std::to_string(size) + " " + std::string(meaning),
                "fewer than 2^31", ErrorCode::not_implemented);
  }
  return static_cast<std::int32_t>(size);
}

TensorView with_dim(const TensorView& tensor, int at) {
  TensorView result = tensor;
  ++result.rank;
  for (int i = result.rank - 1; i > at; --i) {
    result.shape[i] = result.shape[i - 1];
    result.strides[i] = result.strides[i - 1];
  }
  result.shape[at] = 1;
  return result;
}

void in_place_or_apart(const check::Arg& out, const check::Arg& in) {
  if (out.tensor.data != in.tensor.data || out.tensor.numel() == 0) return;
  for (int i = 0; i < out.tensor.rank; ++i) {
    if (step(out.tensor, i) != step(in.tensor, i)) {
      check::fail(out.op, out.name, to_string(out.tensor),
                  "the strides of " + std::string(in.name) +
                      ", whose memory it is: " + to_string(in.tensor));
    }
  }
}

}  // namespace quire::rows
