#include "cuda/rope.h"

#include <algorithm>

#include "cuda/driver.h"
#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::RopeConfig;
using kernels::RopeParams;
using kernels::RopeSide;

jit::KernelSpec rope_spec(const RopeConfig& config) {
  jit::KernelSpec spec;
  spec.name = "rope";
  spec.header = "rope/rope.cuh";
  spec.function = "rope";
  spec.config_type = "RopeConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "RopeParams";
  spec.threads_per_block = config.threads;
  // Enough loads in flight.
  spec.min_blocks_per_sm = std::max(1, (config.units_per_thread > 1 ? 960 : 1280) / config.threads);
  spec.dynamic_smem_bytes = kernels::kMaxRotaryDim * sizeof(float);
  return spec;
}

// Accesses of what turns, by pairs, and of what does not.
std::int32_t num_units(const RopeParams& p, int vec_elems) {
  std::int32_t units = 0;
  for (const RopeSide& side : p.sides) {
    units += side.num_heads * ((side.head_dim - side.rotary_dim / 2) / vec_elems);
  }
  return units;
}

// All units of a token at once: of many tokens two a thread, of few, whose threads all run at a
// time, one.
void choose_threads(RopeConfig& config, int units, bool many_tokens) {
  constexpr int kMaxThreads = 512;
  config.units_per_thread = many_tokens || units > kMaxThreads ? 2 : 1;
  const int warps = (units - 1) / (32 * config.units_per_thread) + 1;
  config.threads = std::min(32 * warps, kMaxThreads);
}

RopeConfig choose_config(RopeConfig config, const RopeParams& p, int device_index) {
  const int element = size_bytes(config.dtype);
  config.vec_elems = 16 / element;
  for (int s = 0; s < kernels::kRopeSides; ++s) {
    const RopeSide& side = p.sides[s];
    if (side.num_heads * side.head_dim == 0) continue;
    const bool is_query = s < kernels::kRopeQuerySides;
    const int out_element = size_bytes(is_query ? config.q_out_dtype : config.k_out_dtype);
    config.vec_elems =
        access_elems(config.vec_elems, side.rotary_dim / 2,
                     {{side.in, element, {side.in_token_stride, side.in_head_stride}},
                      {side.out,
                       out_element,
                       {side.out_token_stride, side.out_head_stride, side.out_page_stride}}});
    config.vec_elems = access_elems(config.vec_elems, side.head_dim, {});
  }
  constexpr int kTokensPerSm = 4;
  choose_threads(config, num_units(p, config.vec_elems),
                 p.nnz > kTokensPerSm * device_limits(device_index).num_sms);
  return config;
}

}  // namespace

void rope(RopeConfig config, const RopeParams& params, int device_index, Stream stream) {
  config = choose_config(config, params, device_index);
  RopeParams p = params;
  p.num_units = num_units(p, config.vec_elems);
  const Kernel& kernel = get_kernel(rope_spec(config), device_index);
  launch(kernel, static_cast<unsigned>(p.nnz), 1, stream, p);
}

std::vector<ListedKernel> rope_kernels() {
  std::vector<ListedKernel> list;
  const auto add = [&](RopeConfig config, bool preset) {
    for (const int units : {256, 320}) {
      if (units == 256 && !preset) continue;  // differs in the number of threads only
      for (const bool many_tokens : {false, true}) {
        choose_threads(config, units, many_tokens);
        list.push_back({.spec = rope_spec(config), .preset = preset});
      }
    }
  };
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    const int wide = 16 / size_bytes(dtype);
    RopeConfig plain{.dtype = dtype, .q_out_dtype = dtype, .k_out_dtype = dtype};
    add(plain, false);  // an element an access
    plain.vec_elems = wide;
    for (const bool interleave : {false, true}) {
      for (const bool cached : {false, true}) {
        if (dtype == DType::f32 && (interleave || cached)) continue;  // seldom used
        RopeConfig config = plain;
        config.interleave = interleave;
        config.cached = cached;
        const bool preset = dtype != DType::f32 && !interleave;
        for (const DType pos_dtype : {DType::i32, DType::i64}) {
          config.pos_dtype = pos_dtype;
          add(config, preset);
        }
        config.k_out_dtype = DType::f8e4m3;  // to an fp8 cache
        add(config, preset && cached);
        config.q_out_dtype = DType::f8e4m3;
        add(config, preset && cached);
      }
    }
    plain.positions = kernels::RopePositions::ragged;
    add(plain, false);
  }
  return list;
}

}  // namespace quire::cuda
