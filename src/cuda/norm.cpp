#include "cuda/norm.h"

#include <algorithm>
#include <bit>

#include "cuda/driver.h"
#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::NormConfig;
using kernels::NormKind;
using kernels::NormParams;
using kernels::Scaling;

jit::KernelSpec norm_spec(const NormConfig& config) {
  jit::KernelSpec spec;
  spec.name = "normalize";
  spec.header = "norm/norm.cuh";
  spec.function = "normalize";
  spec.config_type = "NormConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "NormParams";
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = 64 * sizeof(float);
  return spec;
}

int bit_ceil(std::int64_t x) {
  return static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(x)));
}

// Threads for rows of `hidden` elements. Many rows: few threads with many accesses of a row in
// flight each, whose sums need few barriers. Few rows: all the threads there is work for.
NormConfig choose_threads(NormConfig config, std::int64_t hidden, bool many_rows) {
  constexpr int kMaxThreads = 512;  // so that a thread has 128 registers
  const std::int64_t vecs = std::max<std::int64_t>(1, hidden / config.vec_elems);
  constexpr int kManyVecs = 4;  // with 8, rows of 2048 to 16384 elements take 4 to 9 % longer
  const std::int64_t wanted =
      many_rows ? std::max((vecs + kManyVecs - 1) / kManyVecs, std::min<std::int64_t>(vecs, 32))
                : vecs;
  config.threads_per_row = std::min(bit_ceil(wanted), kMaxThreads);
  const std::int64_t per_thread = (vecs + config.threads_per_row - 1) / config.threads_per_row;
  // A residual, and a second look at what is written, take registers of their own.
  const int most_wide = config.fused_add || config.scaling == Scaling::computed ? 4 : 8;
  // Narrow accesses hold little each.
  const int most = config.vec_elems * size_bytes(config.dtype) >= 8 ? most_wide : 2 * most_wide;
  config.vecs_per_thread = per_thread > most ? 0 : bit_ceil(per_thread);
  config.threads = config.threads_per_row > 32 ? config.threads_per_row : 128;
  return config;
}

NormConfig choose_config(NormConfig config, const NormParams& p, int device_index) {
  const int element = size_bytes(config.dtype), weight = size_bytes(config.weight_dtype);
  config.vec_elems =
      access_elems(16 / element, p.hidden,
                   {{p.input, element, {p.input_token_stride, p.input_head_stride}},
                    {p.residual, element, {p.residual_token_stride, p.residual_head_stride}},
                    {p.out, size_bytes(config.out_dtype), {p.out_token_stride, p.out_head_stride}},
                    {p.weight, weight, {}},
                    {p.bias, weight, {}}});
  constexpr int kRowsPerSm = 4;
  return choose_threads(config, p.hidden,
                        p.rows >= kRowsPerSm * device_limits(device_index).num_sms);
}

}  // namespace

void normalize(NormConfig config, const NormParams& params, int device_index, Stream stream) {
  config = choose_config(config, params, device_index);
  const std::int64_t rows_per_block = config.threads / config.threads_per_row;
  const std::int64_t blocks = (params.rows + rows_per_block - 1) / rows_per_block;
  const Kernel& kernel = get_kernel(norm_spec(config), device_index);
  launch(kernel, static_cast<unsigned>(blocks), 1, stream, params);
}

std::vector<ListedKernel> norm_kernels() {
  std::vector<ListedKernel> list;
  const auto add = [&](NormConfig config, int vec_elems, std::int64_t hidden, bool preset) {
    config.vec_elems = vec_elems;
    for (const bool many_rows : {false, true}) {
      const NormConfig chosen = choose_threads(config, hidden, many_rows);
      const auto same = [&](const ListedKernel& k) {
        return k.spec.config == jit::config_literal(chosen);
      };
      if (std::ranges::none_of(list, same)) {
        list.push_back({.spec = norm_spec(chosen), .preset = preset});
      }
    }
  };
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    const int wide = 16 / size_bytes(dtype);
    const bool preset = dtype != DType::f32;
    for (const bool fused_add : {false, true}) {
      NormConfig config{.dtype = dtype, .weight_dtype = dtype, .out_dtype = dtype};
      config.fused_add = fused_add;
      for (const int hidden : {128, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536}) {
        if (preset || hidden == 4096) add(config, wide, hidden, preset && hidden <= 8192);
      }
      for (const int hidden : {128, 4096, 100000}) add(config, 1, hidden, false);
      config.out_dtype = DType::f8e4m3;
      for (const Scaling scaling : {Scaling::given, Scaling::computed}) {
        config.scaling = scaling;
        for (const int hidden : {4096, 8192, 65536})
          add(config, wide, hidden, preset && hidden == 4096);
        add(config, 1, 4096, false);
      }
    }
    for (const DType weight_dtype : {dtype, DType::f32}) {
      NormConfig config{.kind = NormKind::layer, .dtype = dtype, .weight_dtype = weight_dtype};
      config.out_dtype = dtype;
      for (const int hidden : {1024, 4096, 65536}) add(config, wide, hidden, false);
      config.out_dtype = DType::f8e5m2;
      config.scaling = Scaling::computed;
      for (const int hidden : {1024, 4096, 65536}) add(config, wide, hidden, false);
    }
  }
  return list;
}

}  // namespace quire::cuda
