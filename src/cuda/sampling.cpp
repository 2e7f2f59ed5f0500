#include "cuda/sampling.h"

#include <iterator>

#include "cuda/cluster_row.h"
#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::ArgmaxConfig;
using kernels::DType;
using kernels::RowConfig;
using kernels::RowKeys;

constexpr RowKernel kSample{.folder = "sampling",
                            .name = "sample",
                            .params_type = "SampleParams",
                            .one_block_row = kCandidatesRow,
                            .finds_candidates = true};
constexpr RowKernel kFilterRows{.folder = "sampling",
                                .name = "filter_rows",
                                .params_type = "FilterRowsParams",
                                .one_block_row = kCandidatesRow,
                                .finds_candidates = true};
constexpr RowKernel kSoftmax{.folder = "sampling",
                             .name = "softmax",
                             .params_type = "SoftmaxParams",
                             .min_blocks_per_sm = 3,  // while one writes, others read
                             .own_bytes = 0,
                             // Sums of floats: a row's must not depend on the others.
                             .max_cluster_rows = kAllRows,
                             .max_vec_elems = 4};  // with 8 there is no room for three blocks
constexpr RowKernel kTokenLogProbs{.folder = "sampling",
                                   .name = "token_log_probs",
                                   .params_type = "TokenLogProbsParams",
                                   .own_bytes = 0,
                                   // Sums of floats: a row's must not depend on the others.
                                   .max_cluster_rows = kAllRows,
                                   .holds_rows = false};
constexpr int kArgmaxThreads[] = {128, 1024};
constexpr int kShortRow = 2048;

jit::KernelSpec argmax_spec(const ArgmaxConfig& config) {
  jit::KernelSpec spec;
  spec.name = "argmax";
  spec.header = "sampling/argmax.cuh";
  spec.function = "argmax";
  spec.config_type = "ArgmaxConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "ArgmaxParams";
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = config.threads / 32 * sizeof(kernels::u64);
  return spec;
}

// How many of a row's largest tokens are looked for: k, or as many as top-p and min-p usually keep.
std::int32_t filter_candidates(const kernels::FilterParams& filter, std::int64_t rows,
                               std::int32_t vocab, int device_index) {
  const std::int32_t of_nucleus = kernels::nucleus_tokens(vocab);
  if (filter.top_k.values != nullptr) return of_nucleus;
  const std::int32_t top_k = filter.top_k.value;
  if (top_k > 0 && top_k <= of_nucleus) return top_k;
  // Few rows are held in shared memory, where flat ones, whose nuclei do not fit into lists, are
  // searched faster (H100, vocabulary 128,256: 33 rows take 81 to 108 us there, 56 to 209 by lists;
  // 64 rows 121 to 165, 60 to 215).
  const bool are_few = 4 * rows <= device_limits(device_index).num_sms;
  const bool may_end = filter.top_p.values != nullptr || filter.top_p.value < 1.f ||
                       filter.min_p.values != nullptr || filter.min_p.value > 0.f;
  return may_end && !are_few ? of_nucleus : top_k;
}

}  // namespace

void softmax(DType dtype, const kernels::SoftmaxParams& params, int device_index, Stream stream) {
  const RowConfig config = row_config(
      kSoftmax, RowKeys::weights, {params.in.rows, params.in.vocab},
      {{params.in.data, params.in.stride, dtype}, {params.probs, params.probs_stride, DType::f32}},
      device_index);
  launch_rows(row_spec(kSoftmax, config, params.in.vocab), params.in.rows, device_index, stream,
              params);
}

void argmax(DType dtype, const kernels::ArgmaxParams& params, int device_index, Stream stream) {
  const std::int64_t element = size_bytes(dtype);
  const int bytes =
      access_bytes({params.in.data}, {params.in.stride * element, params.in.vocab * element});
  const ArgmaxConfig config{.dtype = dtype,
                            .vec_elems = bytes == 16 ? 16 / size_bytes(dtype) : 1,
                            .threads = kArgmaxThreads[params.in.vocab <= kShortRow ? 0 : 1]};
  launch(get_kernel(argmax_spec(config), device_index), params.in.rows, 1, stream, params);
}

void token_log_probs(DType dtype, const kernels::TokenLogProbsParams& params, int device_index,
                     Stream stream) {
  const RowConfig config =
      row_config(kTokenLogProbs, RowKeys::weights, {params.in.rows, params.in.vocab},
                 {{params.in.data, params.in.stride, dtype}}, device_index);
  launch_rows(row_spec(kTokenLogProbs, config, params.in.vocab), params.in.rows, device_index,
              stream, params);
}

void sample(DType dtype, RowKeys keys, const kernels::SampleParams& params, int device_index,
            Stream stream) {
  const RowConfig config =
      row_config(kSample, keys,
                 {params.rows, params.in.vocab,
                  filter_candidates(params.filter, params.rows, params.in.vocab, device_index)},
                 {{params.in.data, params.in.stride, dtype}}, device_index);
  launch_rows(row_spec(kSample, config, params.in.vocab), params.rows, device_index, stream,
              params);
}

void filter_rows(DType dtype, RowKeys keys, const kernels::FilterRowsParams& params,
                 int device_index, Stream stream) {
  const RowConfig config = row_config(
      kFilterRows, keys,
      {params.in.rows, params.in.vocab,
       filter_candidates(params.filter, params.in.rows, params.in.vocab, device_index)},
      {{params.in.data, params.in.stride, dtype}, {params.out, params.out_stride, dtype}},
      device_index);
  launch_rows(row_spec(kFilterRows, config, params.in.vocab), params.in.rows, device_index, stream,
              params);
}

std::vector<ListedKernel> sampling_kernels() {
  std::vector<ListedKernel> list;
  const auto add = [&](const RowKernel& kernel, DType dtype, RowKeys keys) {
    std::vector<ListedKernel> more = row_kernels(kernel, dtype, keys);
    std::move(more.begin(), more.end(), std::back_inserter(list));
  };
  add(kSample, DType::f32, RowKeys::probabilities);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    add(kSoftmax, dtype, RowKeys::weights);
    add(kTokenLogProbs, dtype, RowKeys::weights);
    add(kSample, dtype, RowKeys::weights);
    add(kFilterRows, dtype, RowKeys::probabilities);
    add(kFilterRows, dtype, RowKeys::ordered);
    for (const int vec : {1, 16 / size_bytes(dtype)}) {
      for (const int threads : kArgmaxThreads) {
        list.push_back({.spec = argmax_spec({dtype, vec, threads}),
                        .preset = vec > 1 && threads == kArgmaxThreads[1]});
      }
    }
  }
  return list;
}

}  // namespace quire::cuda
