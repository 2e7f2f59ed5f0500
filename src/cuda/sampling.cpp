#include "cuda/sampling.h"

#include <algorithm>

#include "cuda/row_kernel.h"
#include "sampling/sampling_types.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::LogitsConfig;
using kernels::SampleConfig;
using kernels::TokenFilter;

// A row has a block to itself. Long rows need all the loads in flight that a multiprocessor can
// have; short ones would leave most of so many threads without work.
constexpr int kShortRow = 2048;
constexpr int kShortRowThreads = 128, kLongRowThreads = 1024;

int threads_for(std::int64_t vocab) {
  return vocab <= kShortRow ? kShortRowThreads : kLongRowThreads;
}

// Elements a load: 4 when the rows allow it, else 1.
int vec_elems(int bytes, DType dtype) { return bytes / size_bytes(dtype) >= 4 ? 4 : 1; }

std::size_t warp_scratch_bytes(int threads) { return threads / 32 * sizeof(kernels::u64); }

jit::KernelSpec logits_spec(const char* name, const char* params_type, const LogitsConfig& config) {
  jit::KernelSpec spec;
  spec.name = name;
  spec.header = std::string("sampling/") + name + ".cuh";
  spec.function = name;
  spec.config_type = "LogitsConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = params_type;
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = warp_scratch_bytes(config.threads);
  return spec;
}

jit::KernelSpec softmax_spec(const LogitsConfig& config) {
  return logits_spec("softmax", "SoftmaxParams", config);
}

jit::KernelSpec argmax_spec(const LogitsConfig& config) {
  return logits_spec("argmax", "ArgmaxParams", config);
}

jit::KernelSpec sample_spec(const SampleConfig& config) {
  jit::KernelSpec spec;
  spec.name = "sample";
  spec.header = "sampling/sample.cuh";
  spec.function = "sample";
  spec.config_type = "SampleConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "SampleParams";
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = kernels::kSampleMemoryBytes;
  return spec;
}

}  // namespace

void softmax(DType dtype, const kernels::SoftmaxParams& params, int device_index, Stream stream) {
  const std::int64_t element = size_bytes(dtype);
  // Four elements of each are 16 bytes of f32 and 8 of the 16-bit types.
  const int in_bytes =
      access_bytes({params.logits}, {params.logits_stride * element, params.vocab * element});
  const int out_bytes = access_bytes({params.probs}, {params.probs_stride * 4, params.vocab * 4ll});
  const LogitsConfig config{
      .dtype = dtype,
      .vec_elems = std::min(vec_elems(in_bytes, dtype), vec_elems(out_bytes, DType::f32)),
      .threads = threads_for(params.vocab)};
  launch(get_kernel(softmax_spec(config), device_index), params.rows, 1, stream, params);
}

void argmax(DType dtype, const kernels::ArgmaxParams& params, int device_index, Stream stream) {
  const std::int64_t element = size_bytes(dtype);
  const int bytes =
      access_bytes({params.logits}, {params.logits_stride * element, params.vocab * element});
  const LogitsConfig config{
      .dtype = dtype, .vec_elems = vec_elems(bytes, dtype), .threads = threads_for(params.vocab)};
  launch(get_kernel(argmax_spec(config), device_index), params.rows, 1, stream, params);
}

void sample(TokenFilter filter, const kernels::SampleParams& params, int device_index,
            Stream stream) {
  const int bytes = access_bytes({params.probs}, {params.probs_stride * 4, params.vocab * 4ll});
  const SampleConfig config{.filter = filter,
                            .vec_elems = vec_elems(bytes, DType::f32),
                            .threads = threads_for(params.vocab)};
  launch(get_kernel(sample_spec(config), device_index), params.rows, 1, stream, params);
}

std::vector<ListedKernel> sampling_kernels() {
  std::vector<ListedKernel> list;
  for (const int threads : {kShortRowThreads, kLongRowThreads}) {
    for (const int vec : {1, 4}) {
      const bool preset = vec == 4 && threads == kLongRowThreads;
      for (const TokenFilter filter :
           {TokenFilter::none, TokenFilter::top_k, TokenFilter::top_p, TokenFilter::min_p,
            TokenFilter::top_k_then_top_p, TokenFilter::top_k_and_top_p}) {
        list.push_back({.spec = sample_spec({filter, vec, threads}), .preset = preset});
      }
      for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        list.push_back({.spec = softmax_spec({dtype, vec, threads}), .preset = preset});
        list.push_back({.spec = argmax_spec({dtype, vec, threads}), .preset = preset});
      }
    }
  }
  return list;
}

}  // namespace quire::cuda
