#include "cuda/attention_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/attention_sm80_layout.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::DType;

struct Tile {
  int tile_q, tile_kv, warps_q, warps_kv;
};

// Best first. Measured on an H100 (docs/kernels/attention_sm80.md): sharing K and V between 128
// rows gains 20 % over 64 rows at head_dim 128 and 256, and loses 7 % at 64.
std::vector<Tile> tiles(int head_dim, double mean_packed_rows) {
  if (mean_packed_rows <= 16) {  // decode: the warps share the tokens instead
    if (head_dim <= 128) return {{16, 64, 1, 4}};
    return {{16, 32, 1, 2}};
  }
  const bool many_rows = mean_packed_rows > 64;
  if (head_dim <= 64 || (head_dim <= 128 && !many_rows)) return {{64, 64, 4, 1}};
  if (head_dim <= 128) return {{128, 64, 8, 1}, {64, 64, 4, 1}};
  // Registers and shared memory are left for 32 tokens a step only.
  if (many_rows) return {{128, 32, 8, 1}, {64, 32, 4, 1}, {32, 32, 2, 1}};
  return {{64, 32, 4, 1}, {32, 32, 2, 1}};
}

const char* dtype_name(DType dtype) { return kernels::literal(dtype) + sizeof("DType::") - 1; }

}  // namespace

std::string attention_unsupported(const AttentionConfig& shape) {
  if (shape.q_dtype != DType::f16 && shape.q_dtype != DType::bf16) {
    return fmt::format("q_dtype: got {}, expected f16 or bf16 on CUDA", dtype_name(shape.q_dtype));
  }
  if (shape.kv_dtype != shape.q_dtype) {
    return fmt::format("kv_dtype: got {}, expected {} (as q_dtype) on CUDA",
                       dtype_name(shape.kv_dtype), dtype_name(shape.q_dtype));
  }
  if (shape.o_dtype != DType::f16 && shape.o_dtype != DType::bf16 && shape.o_dtype != DType::f32) {
    return fmt::format("o_dtype: got {}, expected f16, bf16 or f32 on CUDA",
                       dtype_name(shape.o_dtype));
  }
  const auto bad_dim = [](int dim) { return dim < 16 || dim > 256 || dim % 16 != 0; };
  if (bad_dim(shape.head_dim_qk)) {
    return fmt::format("head_dim_qk: got {}, expected a multiple of 16 up to 256",
                       shape.head_dim_qk);
  }
  if (bad_dim(shape.head_dim_vo)) {
    return fmt::format("head_dim_vo: got {}, expected a multiple of 16 up to 256",
                       shape.head_dim_vo);
  }
  return "";
}

std::vector<AttentionConfig> attention_candidates(const AttentionConfig& shape,
                                                  double mean_packed_rows) {
  std::vector<AttentionConfig> candidates;
  for (const Tile& t : tiles(std::max(shape.head_dim_qk, shape.head_dim_vo), mean_packed_rows)) {
    AttentionConfig c = shape;
    c.tile_q = t.tile_q;
    c.tile_kv = t.tile_kv;
    c.warps_q = t.warps_q;
    c.warps_kv = t.warps_kv;
    c.num_stages = 2;
    candidates.push_back(c);
  }
  return candidates;
}

int attention_smem_bytes(const AttentionConfig& config) {
  return kernels::sm80_layout(config).bytes;
}

int attention_threads(const AttentionConfig& config) {
  return kernels::sm80_layout(config).threads;
}

}  // namespace quire::cuda
