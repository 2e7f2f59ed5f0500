#include "quire/gemm.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "cpu/gemm.h"
#include "cuda/gemm.h"

namespace quire {
namespace {

constexpr const char* kOp = "gemm";

void check_rows(const check::Arg& arg) {
  check::last_dim_contiguous(arg);
  const TensorView& tensor = arg.tensor;
  if (tensor.shape[0] <= 1 || tensor.strides[0] >= tensor.shape[1]) return;
  check::fail(kOp, arg.name, fmt::format("row stride {}", tensor.strides[0]),
              fmt::format("at least {}, the row length", tensor.shape[1]));
}

void check_gemm(const TensorView& a, const TensorView& weight, const TensorView& out) {
  const check::Arg a_arg{kOp, "a", a}, weight_arg{kOp, "weight", weight}, out_arg{kOp, "out", out};
  for (const check::Arg& arg : {a_arg, weight_arg, out_arg}) check::rank(arg, 2);
  check::dtype(a_arg, {DType::f32, DType::f16, DType::bf16});
  check::dtype(weight_arg, {a.dtype});
  if (a.dtype == DType::f32) {
    check::dtype(out_arg, {DType::f32});
  } else {
    check::dtype(out_arg, {a.dtype, DType::f32});
  }
  check::dim(weight_arg, 1, a.shape[1], "the columns of a");
  check::dim(out_arg, 0, a.shape[0], "the rows of a");
  check::dim(out_arg, 1, weight.shape[0], "the rows of weight");
  check::device(weight_arg, a_arg);
  check::device(out_arg, a_arg);
  for (const check::Arg& arg : {a_arg, weight_arg, out_arg}) check_rows(arg);
  check::memory(a_arg);
  check::memory(weight_arg);
  check::memory(out_arg, /*is_output=*/true);
}

}  // namespace

void gemm(const TensorView& a, const TensorView& weight, const TensorView& out, Stream stream) {
  check_gemm(a, weight, out);
  if (out.numel() == 0) return;
  dispatch(
      kOp, a.device, [&] { cpu::gemm(a, weight, out); },
      [&] { cuda::gemm(a, weight, out, stream); });
}

}  // namespace quire
