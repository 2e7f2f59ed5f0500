#include "cuda/logits_processors.h"

#include <algorithm>

#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::LogitsProcessorsConfig;
using kernels::LogitsProcessorsParams;

constexpr int kThreads = 256;
constexpr unsigned kMaxGridY = 65535;
jit::KernelSpec spec_of(const LogitsProcessorsConfig& config) {
  jit::KernelSpec spec;
  spec.name = "logits_processors";
  spec.header = "logits_processors/logits_processors.cuh";
  spec.function = "logits_processors";
  spec.config_type = "LogitsProcessorsConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "LogitsProcessorsParams";
  spec.threads_per_block = config.threads;
  if (config.has_bias) {
    spec.dynamic_smem_bytes = static_cast<std::size_t>(processed_piece(config)) * 4;
  }
  return spec;
}

// Elements of 16 bytes when everything allows accesses of them, else one.
int vec_elems(DType dtype, const LogitsProcessorsParams& p) {
  const std::int64_t element = size_bytes(dtype), vocab = p.in.vocab;
  const int logits = access_bytes({p.in.data, p.out},
                                  {p.in.stride * element, p.out_stride * element, vocab * element});
  const int counts = access_bytes({p.output_counts}, {p.output_counts_stride * 4, vocab * 4});
  return logits == 16 && counts == 16 ? 16 / size_bytes(dtype) : 1;
}

// Rows [first, first + rows) of the same tensors: a grid has 65,535 of them.
LogitsProcessorsParams rows_from(const LogitsProcessorsParams& p, DType dtype, std::int64_t first,
                                 std::int64_t rows) {
  LogitsProcessorsParams part = p;
  const auto move = [&](auto*& data, std::int64_t stride) {
    if (data != nullptr) data += first * stride;
  };
  const auto move_value = [&](auto& value) { move(value.values, value.stride); };
  const std::int64_t element = size_bytes(dtype);
  part.in.data = static_cast<const char*>(p.in.data) + first * p.in.stride * element;
  part.out = static_cast<char*>(p.out) + first * p.out_stride * element;
  part.in.rows = static_cast<std::int32_t>(rows);
  move(part.bias_ids, p.bias_ids_stride);
  move(part.bias_values, p.bias_values_stride);
  move(part.prompt_mask, p.prompt_mask_stride);
  move(part.output_counts, p.output_counts_stride);
  move(part.allowed_mask, p.allowed_mask_stride);
  move_value(part.repetition);
  move_value(part.presence);
  move_value(part.frequency);
  move_value(part.temperature);
  return part;
}

}  // namespace

void apply_logits_processors(DType dtype, const LogitsProcessorsParams& params, int device_index,
                             Stream stream) {
  const LogitsProcessorsConfig config{.dtype = dtype,
                                      .vec_elems = vec_elems(dtype, params),
                                      .threads = kThreads,
                                      .has_bias = params.num_biases > 0};
  const Kernel& kernel = get_kernel(spec_of(config), device_index);
  const int piece = processed_piece(config);
  const auto pieces = static_cast<unsigned>((params.in.vocab + piece - 1) / piece);
  for (std::int64_t first = 0; first < params.in.rows; first += kMaxGridY) {
    const std::int64_t rows = std::min<std::int64_t>(kMaxGridY, params.in.rows - first);
    launch(kernel, pieces, static_cast<unsigned>(rows), stream,
           rows_from(params, dtype, first, rows));
  }
}

std::vector<ListedKernel> logits_processors_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const int vec : {1, 16 / size_bytes(dtype)}) {
      for (const bool has_bias : {false, true}) {
        list.push_back({.spec = spec_of({dtype, vec, kThreads, has_bias}), .preset = vec > 1});
      }
    }
  }
  return list;
}

}  // namespace quire::cuda
