#include "core/backend.h"
#include "cpu/sampling.h"
#include "cuda/sampling.h"
#include "ops/sampling_arguments.h"

namespace quire {
namespace {

using check::Arg;
using kernels::RowKeys;

void run(const Arg& in, const TensorView& out, RowKeys keys, const TokenFilter& filter,
         Stream stream) {
  const Arg out_arg{in.op, "out", out};
  check::dtype(in, {DType::f32, DType::f16, DType::bf16});
  sampling::check_distribution(in);
  check::dtype(out_arg, {in.tensor.dtype});
  check::same_shape(out_arg, in);
  check::device(out_arg, in);
  sampling::check_distribution(out_arg, /*is_output=*/true);
  rows::in_place_or_apart(out_arg, in);
  kernels::FilterRowsParams p{};
  p.in = sampling::rows_in(in);
  p.filter = sampling::check_filter(filter, p.in.rows, in);
  p.out = out.data;
  p.out_stride = rows::step(out, 0);
  if (p.in.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(in.tensor.dtype);
  dispatch(
      in.op.data(), in.tensor.device, [&] { cpu::filter_rows(dtype, keys, p); },
      [&] { cuda::filter_rows(dtype, keys, p, in.tensor.device.index, stream); });
}

}  // namespace

void renorm_probs(const TensorView& probs, const TensorView& out, const TokenFilter& filter,
                  Stream stream) {
  run({"renorm_probs", "probs", probs}, out, RowKeys::probabilities, filter, stream);
}

void top_k_mask_logits(const TensorView& logits, const TensorView& out, const PerRow<int>& top_k,
                       Stream stream) {
  run({"top_k_mask_logits", "logits", logits}, out, RowKeys::ordered, {.top_k = top_k}, stream);
}

}  // namespace quire
