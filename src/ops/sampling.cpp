#include "quire/sampling.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "cpu/sampling.h"
#include "cuda/sampling.h"
#include "ops/sampling_arguments.h"

namespace quire {
namespace {

using check::Arg;
using kernels::RowKeys;
using kernels::SampleParams;

// On the CPU every index can be looked at before anything is written.
void check_indices(const Arg& indices, const Arg& in) {
  if (!indices.tensor.device.is_cpu()) return;
  const std::int64_t num_rows = in.tensor.shape[0];
  const auto* values = static_cast<const kernels::i32*>(indices.tensor.data);
  for (std::int64_t i = 0; i < indices.tensor.shape[0]; ++i) {
    const kernels::i32 index = values[i * rows::step(indices.tensor, 0)];
    if (index >= 0 && index < num_rows) continue;
    check::fail(indices.op, indices.name, fmt::format("{} in element {}", index, i),
                fmt::format("0 to {}, a row of {}", num_rows - 1, in.name));
  }
}

void check_outputs(SampleParams& p, const SamplingOptions& options, const Arg& in) {
  if (options.valid) {
    const Arg valid{in.op, "valid", *options.valid};
    check::dtype(valid, {DType::boolean, DType::u8});
    sampling::check_per_row(valid, p.rows, in, /*is_output=*/true);
    p.valid = static_cast<kernels::u8*>(valid.tensor.data);
    p.valid_stride = rows::step(valid.tensor, 0);
  }
  if (options.log_probs) {
    const Arg log_probs{in.op, "log_probs", *options.log_probs};
    check::dtype(log_probs, {DType::f32});
    sampling::check_per_row(log_probs, p.rows, in, /*is_output=*/true);
    p.log_probs = static_cast<float*>(log_probs.tensor.data);
    p.log_probs_stride = rows::step(log_probs.tensor, 0);
  }
}

void run(const Arg& in, RowKeys keys, const SampleParams& p, Stream stream) {
  if (p.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(in.tensor.dtype);
  dispatch(
      in.op.data(), in.tensor.device, [&] { cpu::sample(dtype, keys, p); },
      [&] { cuda::sample(dtype, keys, p, in.tensor.device.index, stream); });
}

void from_probs(const char* op, const TensorView& probs, const TensorView& ids,
                const TokenFilter& filter, const SamplingOptions& options, Stream stream) {
  const Arg in{op, "probs", probs};
  check::dtype(in, {DType::f32});
  run(in, RowKeys::probabilities, sampling::check_sample(in, ids, filter, options), stream);
}

}  // namespace

SampleParams sampling::check_sample(const Arg& in, const TensorView& ids, const TokenFilter& filter,
                                    const SamplingOptions& options) {
  const Arg ids_arg{in.op, "ids", ids};
  sampling::check_distribution(in);
  check::dtype(ids_arg, {DType::i32});
  SampleParams p{};
  std::int64_t num_rows = in.tensor.shape[0];
  if (options.indices) {
    const Arg indices{in.op, "indices", *options.indices};
    check::dtype(indices, {DType::i32});
    check::rank(indices, 1);
    num_rows = indices.tensor.shape[0];
    sampling::check_per_row(indices, num_rows, in);
    check_indices(indices, in);
    p.indices = static_cast<const kernels::i32*>(indices.tensor.data);
    p.indices_stride = rows::step(indices.tensor, 0);
  }
  sampling::check_per_row(ids_arg, num_rows, in, /*is_output=*/true);
  p.in = sampling::rows_in(in);
  p.rows = rows::count(ids_arg, num_rows, "rows");
  p.ids = static_cast<kernels::i32*>(ids.data);
  p.ids_stride = rows::step(ids, 0);
  check_outputs(p, options, in);
  p.seed = sampling::row_value("seed", options.seed, num_rows, in);
  p.offset = sampling::row_value("offset", options.offset, num_rows, in);
  p.row_streams = options.seed.tensor ? 0 : 1;
  p.filter = sampling::check_filter(filter, num_rows, in);
  return p;
}

void sample(const TensorView& probs, const TensorView& ids, const SamplingOptions& options,
            Stream stream) {
  from_probs("sample", probs, ids, {}, options, stream);
}

void top_k_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                  const SamplingOptions& options, Stream stream) {
  from_probs("top_k_sample", probs, ids, {.top_k = top_k}, options, stream);
}

void top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& top_p,
                  const SamplingOptions& options, Stream stream) {
  from_probs("top_p_sample", probs, ids, {.top_p = top_p}, options, stream);
}

void min_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& min_p,
                  const SamplingOptions& options, Stream stream) {
  from_probs("min_p_sample", probs, ids, {.min_p = min_p}, options, stream);
}

void top_k_top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                        const PerRow<float>& top_p, FilterOrder order,
                        const SamplingOptions& options, Stream stream) {
  from_probs("top_k_top_p_sample", probs, ids, {.top_k = top_k, .top_p = top_p, .order = order},
             options, stream);
}

void filtered_sample(const TensorView& probs, const TensorView& ids, const TokenFilter& filter,
                     const SamplingOptions& options, Stream stream) {
  from_probs("filtered_sample", probs, ids, filter, options, stream);
}

void sample_from_logits(const TensorView& logits, const TensorView& ids, const TokenFilter& filter,
                        const PerRow<float>& temperature, const SamplingOptions& options,
                        Stream stream) {
  const Arg in{"sample_from_logits", "logits", logits};
  check::dtype(in, {DType::f32, DType::f16, DType::bf16});
  SampleParams p = sampling::check_sample(in, ids, filter, options);
  p.temperature = sampling::check_temperature(temperature, p.rows, in);
  run(in, RowKeys::weights, p, stream);
}

}  // namespace quire
