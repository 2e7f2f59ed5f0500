#include "quire/activation.h"

#include <algorithm>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/activation.h"
#include "cuda/activation.h"

namespace quire {
namespace {

using check::Arg;
using kernels::SiluAndMulParams;

void check_silu_and_mul(const Arg& input, const Arg& out) {
  check::rank_at_least(input, 1);
  check::memory(input);
  check::dtype(input, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(input);
  const int last = input.tensor.rank - 1;
  check::rank(out, input.tensor.rank);
  check::dtype(out, {input.tensor.dtype});
  for (int d = 0; d < last; ++d) check::dim(out, d, input.tensor.shape[d], "as in input");
  check::last_dim_contiguous(out);
  check::device(out, input);
  check::memory(out, true);
  check::dim(input, last, 2 * out.tensor.shape[last], "twice the last dimension of out");
}

// Leading dimensions of both tensors, with neighbours that lie evenly in both merged into one.
void fill_leading_dims(SiluAndMulParams& p, const Arg& input, const Arg& out) {
  for (int d = 0; d + 1 < input.tensor.rank; ++d) {
    const std::int64_t size = input.tensor.shape[d];
    if (size == 1) continue;
    const std::int64_t input_stride = input.tensor.strides[d], out_stride = out.tensor.strides[d];
    const int last = p.num_leading_dims - 1;
    if (last >= 0 && p.input_strides[last] == input_stride * size &&
        p.out_strides[last] == out_stride * size) {
      p.leading_shape[last] = rows::count(input, p.leading_shape[last] * size, "rows");
    } else {
      p.leading_shape[last + 1] = rows::count(input, size, "rows");
      ++p.num_leading_dims;
    }
    p.input_strides[p.num_leading_dims - 1] = input_stride;
    p.out_strides[p.num_leading_dims - 1] = out_stride;
  }
  std::int64_t total = 1;
  for (int d = 0; d < p.num_leading_dims; ++d) {
    total = rows::count(input, total * p.leading_shape[d], "rows");
  }
  p.rows = static_cast<std::int32_t>(total);
}

}  // namespace

void silu_and_mul(const TensorView& input, const TensorView& out, Stream stream) {
  constexpr const char* kOp = "silu_and_mul";
  const Arg input_arg{kOp, "input", input}, out_arg{kOp, "out", out};
  check_silu_and_mul(input_arg, out_arg);
  if (out.numel() == 0) return;

  SiluAndMulParams p{};
  p.input = input.data;
  p.out = out.data;
  p.hidden = rows::count(out_arg, out.shape[out.rank - 1], "elements a row");
  fill_leading_dims(p, input_arg, out_arg);
  const kernels::SiluAndMulConfig config{.dtype = check::to_kernel(input.dtype)};
  dispatch(
      kOp, input.device, [&] { cpu::silu_and_mul(config, p); },
      [&] { cuda::silu_and_mul(config, p, input.device.index, stream); });
}

}  // namespace quire
