#include "cuda/quantize.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "cuda/row_kernel.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::DequantizeConfig;
using kernels::DequantizeParams;
using kernels::DType;
using kernels::PackConfig;
using kernels::PackParams;
using kernels::QuantizeConfig;
using kernels::QuantizeParams;
using kernels::Scaling;

template <class Config>
jit::KernelSpec spec_of(const char* name, const char* config_type, const char* params_type,
                        const Config& config, std::size_t smem_bytes = 0) {
  jit::KernelSpec spec;
  spec.name = name;
  spec.header = "quantize/" + spec.name + ".cuh";
  spec.function = name;
  spec.config_type = config_type;
  spec.config = jit::config_literal(config);
  spec.params_type = params_type;
  spec.threads_per_block = config.threads;
  spec.dynamic_smem_bytes = smem_bytes;
  return spec;
}

jit::KernelSpec quantize_spec(const QuantizeConfig& config) {
  return spec_of("quantize", "QuantizeConfig", "QuantizeParams", config, 64 * sizeof(float));
}

jit::KernelSpec dequantize_spec(const DequantizeConfig& config) {
  return spec_of("dequantize", "DequantizeConfig", "DequantizeParams", config);
}

jit::KernelSpec packbits_spec(const PackConfig& config) {
  return spec_of("packbits", "PackConfig", "PackParams", config);
}

// Accesses of a thread: enough under way, and no more to wait for than that.
constexpr int kVecs = 2;

// Threads for tiles of `elements`: up to eight accesses each, in registers.
QuantizeConfig choose_threads(QuantizeConfig config, std::int64_t elements) {
  constexpr int kMaxVecs = 8, kMaxThreads = 512;
  const std::int64_t vecs = std::max<std::int64_t>(1, elements / config.vec_elems);
  const std::int64_t wanted =
      config.one_row ? (vecs + kVecs - 1) / kVecs
                     : std::max((vecs + kVecs - 1) / kVecs, std::min<std::int64_t>(vecs, 32));
  config.threads_per_tile = static_cast<int>(
      std::min<std::uint64_t>(std::bit_ceil(static_cast<std::uint64_t>(wanted)), kMaxThreads));
  const std::int64_t per_thread = (vecs + config.threads_per_tile - 1) / config.threads_per_tile;
  config.vecs_per_thread =
      per_thread > kMaxVecs
          ? 0
          : static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(per_thread)));
  config.threads = config.threads_per_tile > 32 ? config.threads_per_tile : 128;
  return config;
}

}  // namespace

void quantize(QuantizeConfig config, const QuantizeParams& params, int device_index,
              Stream stream) {
  QuantizeParams p = params;
  const int element = size_bytes(config.dtype);
  config.vec_elems = access_elems(16 / element, p.cols,
                                  {{p.input, element, {p.input_stride}},
                                   {p.out, size_bytes(config.out_dtype), {p.out_stride}}});
  config.vec_elems = access_elems(config.vec_elems, p.tile_cols, {});
  if (config.scaling == Scaling::given) {
    // Any tiles will do: parts of rows that a warp holds.
    p.tile_cols = std::min(p.cols, 32 * kVecs * config.vec_elems);
    p.tiles_across = (p.cols - 1) / p.tile_cols + 1;
    p.num_tiles = std::int64_t{p.tiles_across} * p.rows;
  }
  config.one_row = p.tile_rows == 1;
  config = choose_threads(config, std::int64_t{p.tile_rows} * p.tile_cols);
  const std::int64_t tiles_per_block = config.threads / config.threads_per_tile;
  const std::int64_t blocks = (p.num_tiles + tiles_per_block - 1) / tiles_per_block;
  const Kernel& kernel = get_kernel(quantize_spec(config), device_index);
  launch(kernel, static_cast<unsigned>(blocks), 1, stream, p);
}

void dequantize(DequantizeConfig config, const DequantizeParams& params, int device_index,
                Stream stream) {
  DequantizeParams p = params;
  const int out_element = size_bytes(config.out_dtype);
  config.vec_elems = access_elems(16 / out_element, p.cols,
                                  {{p.input, size_bytes(config.dtype), {p.input_stride}},
                                   {p.out, out_element, {p.out_stride}}});
  if (p.tile_cols < p.cols) config.vec_elems = access_elems(config.vec_elems, p.tile_cols, {});
  config.threads = block_threads(p.cols / config.vec_elems / config.vecs_per_thread);
  const std::int64_t cols_per_block =
      std::int64_t{config.threads} * config.vec_elems * config.vecs_per_thread;
  p.parts = static_cast<std::int32_t>((p.cols + cols_per_block - 1) / cols_per_block);
  const std::int64_t blocks = std::int64_t{p.rows} * p.parts;
  if (blocks > kMaxBlocks) {
    throw Error(ErrorCode::not_implemented, "dequantize_fp8: input: got " + std::to_string(p.rows) +
                                                " rows of " + std::to_string(p.cols) +
                                                " columns, expected at most " +
                                                std::to_string(kMaxBlocks / p.parts) + " rows");
  }
  launch(get_kernel(dequantize_spec(config), device_index), static_cast<unsigned>(blocks), 1,
         stream, p);
}

void packbits(PackConfig config, const PackParams& p, int device_index, Stream stream) {
  const Kernel& kernel = get_kernel(packbits_spec(config), device_index);
  const std::int64_t groups = (p.num_bytes + config.threads - 1) / config.threads;
  launch(kernel, grid_blocks(groups, config.threads, device_index), 1, stream, p);
}

std::vector<ListedKernel> quantize_kernels() {
  std::vector<ListedKernel> list;
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    const int wide = 16 / size_bytes(dtype);
    for (const DType out_dtype : {DType::f8e4m3, DType::f8e5m2}) {
      QuantizeConfig config{.dtype = dtype, .out_dtype = out_dtype};
      const auto add = [&](int vec_elems, std::int64_t elements, bool preset) {
        config.vec_elems = vec_elems;
        list.push_back({.spec = quantize_spec(choose_threads(config, elements)), .preset = preset});
      };
      const bool preset = dtype != DType::f32 && out_dtype == DType::f8e4m3;
      add(wide, 128 * 128, preset);
      config.one_row = true;
      for (const int elements : {128, 4096, 8192, 1 << 20}) add(wide, elements, preset);
      for (const int elements : {128, 4096}) add(1, elements, false);
      config.scaling = Scaling::given;
      add(wide, 32 * kVecs * wide, preset);
      add(1, 32 * kVecs, false);
      for (const int vec_elems : {wide, 1}) {
        const DequantizeConfig back{
            .dtype = out_dtype, .out_dtype = dtype, .vec_elems = vec_elems, .threads = 256};
        list.push_back({.spec = dequantize_spec(back), .preset = preset && vec_elems == wide});
      }
    }
  }
  for (const bool big_endian : {false, true}) {
    list.push_back({.spec = packbits_spec({.big_endian = big_endian}), .preset = true});
  }
  return list;
}

}  // namespace quire::cuda
