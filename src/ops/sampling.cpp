#include "quire/sampling.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "cpu/sampling.h"
#include "cuda/sampling.h"
#include "ops/sampling_arguments.h"

namespace quire {
namespace {

using check::Arg;
using kernels::SampleParams;
using kernels::TokenFilter;

// On the CPU every index can be looked at before anything is written.
void check_indices(const Arg& indices, std::int64_t probs_rows) {
  if (!indices.tensor.device.is_cpu()) return;
  const auto* values = static_cast<const kernels::i32*>(indices.tensor.data);
  for (std::int64_t i = 0; i < indices.tensor.shape[0]; ++i) {
    const kernels::i32 index = values[i * rows::step(indices.tensor, 0)];
    if (index >= 0 && index < probs_rows) continue;
    check::fail(indices.op, indices.name, fmt::format("{} in element {}", index, i),
                fmt::format("0 to {}, a row of probs", probs_rows - 1));
  }
}

// Everything but the filter's own parameters.
SampleParams check_sample(const char* op, const TensorView& probs, const TensorView& ids,
                          const SamplingOptions& options) {
  const Arg probs_arg{op, "probs", probs}, ids_arg{op, "ids", ids};
  check::dtype(probs_arg, {DType::f32});
  sampling::check_distribution(probs_arg);
  check::dtype(ids_arg, {DType::i32});
  SampleParams p{};
  std::int64_t num_rows = probs.shape[0];
  if (options.indices) {
    const Arg indices{op, "indices", *options.indices};
    check::dtype(indices, {DType::i32});
    check::rank(indices, 1);
    num_rows = indices.tensor.shape[0];
    sampling::check_per_row(indices, num_rows, probs_arg);
    check_indices(indices, probs.shape[0]);
    p.indices = static_cast<const kernels::i32*>(indices.tensor.data);
    p.indices_stride = rows::step(indices.tensor, 0);
  }
  sampling::check_per_row(ids_arg, num_rows, probs_arg, /*is_output=*/true);
  if (options.valid) {
    const Arg valid{op, "valid", *options.valid};
    check::dtype(valid, {DType::boolean, DType::u8});
    sampling::check_per_row(valid, num_rows, probs_arg, /*is_output=*/true);
    p.valid = static_cast<kernels::u8*>(valid.tensor.data);
    p.valid_stride = rows::step(valid.tensor, 0);
  }
  p.probs = static_cast<const float*>(probs.data);
  p.probs_stride = rows::step(probs, 0);
  p.probs_rows = rows::count(probs_arg, probs.shape[0], "rows");
  p.vocab = static_cast<int>(probs.shape[1]);
  p.rows = rows::count(ids_arg, num_rows, "rows");
  p.ids = static_cast<kernels::i32*>(ids.data);
  p.ids_stride = rows::step(ids, 0);
  p.seed = sampling::row_value("seed", options.seed, num_rows, probs_arg);
  p.offset = sampling::row_value("offset", options.offset, num_rows, probs_arg);
  p.row_streams = options.seed.tensor ? 0 : 1;
  return p;
}

kernels::RowValue<float> check_fraction(std::string_view name, const PerRow<float>& value,
                                        std::int64_t num_rows, const Arg& probs) {
  if (!value.tensor && !(value.value >= 0.f && value.value <= 1.f)) {
    check::fail(probs.op, name, fmt::format("{}", value.value), "a number from 0 to 1");
  }
  return sampling::row_value(name, value, num_rows, probs);
}

void run(const char* op, TokenFilter filter, const SampleParams& p, Device device, Stream stream) {
  if (p.rows == 0) return;
  dispatch(
      op, device, [&] { cpu::sample(filter, p); },
      [&] { cuda::sample(filter, p, device.index, stream); });
}

}  // namespace

void sample(const TensorView& probs, const TensorView& ids, const SamplingOptions& options,
            Stream stream) {
  constexpr const char* kOp = "sample";
  const SampleParams p = check_sample(kOp, probs, ids, options);
  run(kOp, TokenFilter::none, p, probs.device, stream);
}

void top_k_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                  const SamplingOptions& options, Stream stream) {
  constexpr const char* kOp = "top_k_sample";
  SampleParams p = check_sample(kOp, probs, ids, options);
  p.top_k = sampling::row_value("top_k", top_k, p.rows, {kOp, "probs", probs});
  run(kOp, TokenFilter::top_k, p, probs.device, stream);
}

void top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& top_p,
                  const SamplingOptions& options, Stream stream) {
  constexpr const char* kOp = "top_p_sample";
  SampleParams p = check_sample(kOp, probs, ids, options);
  p.top_p = check_fraction("top_p", top_p, p.rows, {kOp, "probs", probs});
  run(kOp, TokenFilter::top_p, p, probs.device, stream);
}

void min_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& min_p,
                  const SamplingOptions& options, Stream stream) {
  constexpr const char* kOp = "min_p_sample";
  SampleParams p = check_sample(kOp, probs, ids, options);
  p.min_p = check_fraction("min_p", min_p, p.rows, {kOp, "probs", probs});
  run(kOp, TokenFilter::min_p, p, probs.device, stream);
}

void top_k_top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                        const PerRow<float>& top_p, FilterOrder order,
                        const SamplingOptions& options, Stream stream) {
  constexpr const char* kOp = "top_k_top_p_sample";
  SampleParams p = check_sample(kOp, probs, ids, options);
  const Arg probs_arg{kOp, "probs", probs};
  p.top_k = sampling::row_value("top_k", top_k, p.rows, probs_arg);
  p.top_p = check_fraction("top_p", top_p, p.rows, probs_arg);
  run(kOp,
      order == FilterOrder::joint ? TokenFilter::top_k_and_top_p : TokenFilter::top_k_then_top_p, p,
      probs.device, stream);
}

}  // namespace quire
