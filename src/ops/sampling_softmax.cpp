#include "core/backend.h"
#include "cpu/sampling.h"
#include "cuda/sampling.h"
#include "ops/sampling_arguments.h"

namespace quire {

using check::Arg;

namespace {

// [n] or [n, tokens].
void check_tokens(const Arg& arg, const Arg& logits, bool is_output) {
  if (arg.tensor.rank == 2) {
    check::last_dim_contiguous(arg);
  } else {
    check::rank(arg, 1);
  }
  check::dim(arg, 0, logits.tensor.shape[0], "a row for each of logits");
  check::device(arg, logits);
  check::memory(arg, is_output);
}

}  // namespace

void softmax(const TensorView& logits, const TensorView& probs, const PerRow<float>& temperature,
             Stream stream) {
  constexpr const char* kOp = "softmax";
  const Arg logits_arg{kOp, "logits", logits}, probs_arg{kOp, "probs", probs};
  check::dtype(logits_arg, {DType::f32, DType::f16, DType::bf16});
  check::dtype(probs_arg, {DType::f32});
  sampling::check_distribution(logits_arg);
  check::same_shape(probs_arg, logits_arg);
  check::device(probs_arg, logits_arg);
  sampling::check_distribution(probs_arg, /*is_output=*/true);
  rows::in_place_or_apart(probs_arg, logits_arg);
  kernels::SoftmaxParams p{};
  p.in = sampling::rows_in(logits_arg);
  p.probs = static_cast<float*>(probs.data);
  p.probs_stride = rows::step(probs, 0);
  p.temperature = sampling::check_temperature(temperature, logits.shape[0], logits_arg);
  if (p.in.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(logits.dtype);
  dispatch(
      kOp, logits.device, [&] { cpu::softmax(dtype, p); },
      [&] { cuda::softmax(dtype, p, logits.device.index, stream); });
}

void argmax(const TensorView& logits, const TensorView& ids, Stream stream) {
  constexpr const char* kOp = "argmax";
  const Arg logits_arg{kOp, "logits", logits}, ids_arg{kOp, "ids", ids};
  check::dtype(logits_arg, {DType::f32, DType::f16, DType::bf16});
  check::dtype(ids_arg, {DType::i32});
  sampling::check_distribution(logits_arg);
  sampling::check_per_row(ids_arg, logits.shape[0], logits_arg, /*is_output=*/true);
  kernels::ArgmaxParams p{};
  p.in = sampling::rows_in(logits_arg);
  p.ids = static_cast<kernels::i32*>(ids.data);
  p.ids_stride = rows::step(ids, 0);
  if (p.in.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(logits.dtype);
  dispatch(
      kOp, logits.device, [&] { cpu::argmax(dtype, p); },
      [&] { cuda::argmax(dtype, p, logits.device.index, stream); });
}

void token_log_probs(const TensorView& logits, const TensorView& ids, const TensorView& out,
                     const PerRow<float>& temperature, Stream stream) {
  constexpr const char* kOp = "token_log_probs";
  const Arg logits_arg{kOp, "logits", logits}, ids_arg{kOp, "ids", ids}, out_arg{kOp, "out", out};
  check::dtype(logits_arg, {DType::f32, DType::f16, DType::bf16});
  check::dtype(ids_arg, {DType::i32});
  check::dtype(out_arg, {DType::f32});
  sampling::check_distribution(logits_arg);
  check_tokens(ids_arg, logits_arg, /*is_output=*/false);
  check::same_shape(out_arg, ids_arg);
  check_tokens(out_arg, logits_arg, /*is_output=*/true);
  kernels::TokenLogProbsParams p{};
  p.in = sampling::rows_in(logits_arg);
  p.temperature = sampling::check_temperature(temperature, logits.shape[0], logits_arg);
  p.tokens = ids.rank == 2 ? rows::count(ids_arg, ids.shape[1], "tokens") : 1;
  p.ids = static_cast<const kernels::i32*>(ids.data);
  p.ids_stride = rows::step(ids, 0);
  p.out = static_cast<float*>(out.data);
  p.out_stride = rows::step(out, 0);
  if (p.in.rows == 0 || p.tokens == 0) return;
  const kernels::DType dtype = check::to_kernel(logits.dtype);
  dispatch(
      kOp, logits.device, [&] { cpu::token_log_probs(dtype, p); },
      [&] { cuda::token_log_probs(dtype, p, logits.device.index, stream); });
}

}  // namespace quire
