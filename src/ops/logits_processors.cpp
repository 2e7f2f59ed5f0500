#include "quire/logits_processors.h"

#include <fmt/format.h>

#include <cmath>

#include "core/backend.h"
#include "cpu/logits_processors.h"
#include "cpu/sampling.h"
#include "cuda/logits_processors.h"
#include "cuda/sampling.h"
#include "logits_processors/logits_processors_types.h"
#include "ops/sampling_arguments.h"

namespace quire {
namespace {

using check::Arg;
using kernels::LogitsProcessorsParams;

// [n, at least min_columns], contiguous in the last dimension.
void check_rows(const Arg& arg, const Arg& logits, DType dtype, std::int64_t min_columns) {
  check::dtype(arg, {dtype});
  check::rank(arg, 2);
  check::dim(arg, 0, logits.tensor.shape[0], "rows of logits");
  check::last_dim_contiguous(arg);
  check::device(arg, logits);
  check::memory(arg);
  if (arg.tensor.shape[1] >= min_columns) return;
  check::fail(arg.op, arg.name, fmt::format("{} columns", arg.tensor.shape[1]),
              fmt::format("at least {}", min_columns));
}

const kernels::u32* packed_mask(std::string_view name, const std::optional<TensorView>& mask,
                                const Arg& logits, kernels::i64& stride) {
  if (!mask) return nullptr;
  check_rows({logits.op, name, *mask}, logits, DType::i32, (logits.tensor.shape[1] + 31) / 32);
  stride = rows::step(*mask, 0);
  return static_cast<const kernels::u32*>(mask->data);
}

void add_biases(LogitsProcessorsParams& p, const LogitsProcessors& processors, const Arg& logits) {
  if (processors.bias_ids.has_value() != processors.bias_values.has_value()) {
    check::fail(logits.op, "bias_ids", "one of bias_ids and bias_values", "both or none");
  }
  if (!processors.bias_ids) return;
  const Arg ids{logits.op, "bias_ids", *processors.bias_ids};
  const Arg values{logits.op, "bias_values", *processors.bias_values};
  check_rows(ids, logits, DType::i32, 0);
  check_rows(values, logits, DType::f32, 0);
  check::same_shape(values, ids);
  p.bias_ids = static_cast<const kernels::i32*>(ids.tensor.data);
  p.bias_ids_stride = rows::step(ids.tensor, 0);
  p.bias_values = static_cast<const float*>(values.tensor.data);
  p.bias_values_stride = rows::step(values.tensor, 0);
  p.num_biases = rows::count(ids, ids.tensor.shape[1], "columns");
}

void add_penalties(LogitsProcessorsParams& p, const LogitsProcessors& processors,
                   const Arg& logits) {
  const std::int64_t rows = logits.tensor.shape[0];
  if (!processors.repetition_penalty.tensor) {
    check::finite_positive(logits.op, "repetition_penalty", processors.repetition_penalty.value);
  }
  const auto check_finite = [&](std::string_view name, const PerRow<float>& value) {
    if (value.tensor || std::isfinite(value.value)) return;
    check::fail(logits.op, name, fmt::format("{}", value.value), "a finite number");
  };
  check_finite("presence_penalty", processors.presence_penalty);
  check_finite("frequency_penalty", processors.frequency_penalty);
  p.repetition =
      sampling::row_value("repetition_penalty", processors.repetition_penalty, rows, logits);
  p.presence = sampling::row_value("presence_penalty", processors.presence_penalty, rows, logits);
  p.frequency =
      sampling::row_value("frequency_penalty", processors.frequency_penalty, rows, logits);
}

// Everything but the temperature.
LogitsProcessorsParams check_processors(const Arg& in, const Arg& out,
                                        const LogitsProcessors& processors) {
  check::dtype(in, {DType::f32, DType::f16, DType::bf16});
  sampling::check_distribution(in);
  check::dtype(out, {in.tensor.dtype});
  check::same_shape(out, in);
  check::device(out, in);
  sampling::check_distribution(out, /*is_output=*/true);
  rows::in_place_or_apart(out, in);
  LogitsProcessorsParams p{};
  p.in = sampling::rows_in(in);
  p.out = out.tensor.data;
  p.out_stride = rows::step(out.tensor, 0);
  add_biases(p, processors, in);
  p.prompt_mask = packed_mask("prompt_mask", processors.prompt_mask, in, p.prompt_mask_stride);
  p.allowed_mask = packed_mask("allowed_mask", processors.allowed_mask, in, p.allowed_mask_stride);
  if (processors.output_counts) {
    const Arg counts{in.op, "output_counts", *processors.output_counts};
    check_rows(counts, in, DType::i32, in.tensor.shape[1]);
    p.output_counts = static_cast<const kernels::i32*>(counts.tensor.data);
    p.output_counts_stride = rows::step(counts.tensor, 0);
  }
  add_penalties(p, processors, in);
  return p;
}

}  // namespace

void apply_logits_processors(const TensorView& logits, const TensorView& out,
                             const LogitsProcessors& processors, Stream stream) {
  constexpr const char* kOp = "apply_logits_processors";
  const Arg in{kOp, "logits", logits};
  LogitsProcessorsParams p = check_processors(in, {kOp, "out", out}, processors);
  p.temperature = sampling::check_temperature(processors.temperature, p.in.rows, in);
  if (p.in.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(logits.dtype);
  dispatch(
      kOp, logits.device, [&] { cpu::apply_logits_processors(dtype, p); },
      [&] { cuda::apply_logits_processors(dtype, p, logits.device.index, stream); });
}

void sample_processed(const TensorView& logits, const TensorView& processed, const TensorView& ids,
                      const LogitsProcessors& processors, const TokenFilter& filter,
                      const SamplingOptions& options, Stream stream) {
  constexpr const char* kOp = "sample_processed";
  const Arg in{kOp, "logits", logits}, out{kOp, "processed", processed};
  LogitsProcessorsParams first = check_processors(in, out, processors);
  first.temperature.value = 1;
  kernels::SampleParams second = sampling::check_sample(out, ids, filter, options);
  second.temperature = sampling::check_temperature(processors.temperature, second.rows, in);
  if (first.in.rows == 0 && second.rows == 0) return;
  const kernels::DType dtype = check::to_kernel(logits.dtype);
  constexpr kernels::RowKeys kKeys = kernels::RowKeys::weights;
  dispatch(
      kOp, logits.device,
      [&] {
        cpu::apply_logits_processors(dtype, first);
        if (second.rows > 0) cpu::sample(dtype, kKeys, second);
      },
      [&] {
        const int device = logits.device.index;
        cuda::apply_logits_processors(dtype, first, device, stream);
        if (second.rows > 0) cuda::sample(dtype, kKeys, second, device, stream);
      });
}

}  // namespace quire
