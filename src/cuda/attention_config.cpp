#include "cuda/attention_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attention/attention_sm80_layout.h"
#include "attention/attention_sm90_layout.h"
#include "core/env.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionKernel;
using kernels::DType;

// A row of the table: for head dims and mean packed rows up to the given ones.
struct Tile {
  int max_head_dim;
  double min_rows, max_rows;
  int tile_q, tile_kv, warps_q, warps_kv;
  const char* reason;
};
constexpr double kAny = 1e30;

// Figures: H100 80GB HBM3, docs/kernels/attention_sm80.md.
constexpr Tile kSm80Tiles[] = {
    {128, 0, 16, 16, 64, 1, 4, "decode: the warps share the tokens instead of the rows"},
    {256, 0, 16, 16, 32, 1, 2, "decode: the warps share the tokens instead of the rows"},
    {64, 16, kAny, 64, 64, 4, 1, "128 rows lose 7 % at head_dim 64"},
    {128, 64, kAny, 128, 64, 8, 1, "K and V shared by 128 rows: 20 % over 64"},
    {128, 16, kAny, 64, 64, 4, 1, "few rows, or little shared memory"},
    {256, 64, kAny, 128, 32, 8, 1, "registers are left for 32 tokens a step only"},
    {256, 16, kAny, 64, 32, 4, 1, "few rows, or little shared memory"},
    {256, 16, kAny, 32, 32, 2, 1, "little shared memory"},
};

// Figures: H100 80GB HBM3, docs/kernels/attention_sm90.md. tile_q / 64 consumer warpgroups.
struct Sm90Tile {
  int max_head_dim;
  double min_rows;
  int tile_q, tile_kv, num_stages;
  const char* reason;
};
constexpr Sm90Tile kSm90BoxTiles[] = {
    {64, 128, 192, 112, 3, "three consumers: 30 % over two; 128 tokens a step spill"},
    {64, 16, 64, 128, 3, "few rows"},
    {128, 64, 128, 128, 3, "two consumers in turns"},
    {128, 16, 64, 128, 2, "few rows"},
    {192, 64, 128, 96, 2, "two stages of q, k and v fit"},
    {192, 16, 64, 96, 2, "few rows"},
    {256, 64, 128, 48, 2, "more tokens a step spill"},
    {256, 16, 64, 64, 2, "few rows"},
};
constexpr Sm90Tile kSm90RowTiles[] = {
    {128, 64, 128, 128, 3, "pages too small for boxes, or odd groups: rows are gathered"},
    {128, 16, 64, 128, 2, "the same, few rows"},
    {192, 64, 128, 96, 2, "the same, large heads"},
    {192, 16, 64, 96, 2, "the same, large heads, few rows"},
    {256, 64, 128, 48, 2, "the same, large heads"},
    {256, 16, 64, 64, 2, "the same, large heads, few rows"},
};

// Queries of 8 bits: no other kernel has them, so any number of rows must fit.
constexpr Sm90Tile kSm90Fp8BoxTiles[] = {
    {128, 64, 128, 128, 3, "fp8: two consumers in turns"},
    {128, 0, 64, 128, 3, "fp8: few rows"},
    {256, 64, 128, 64, 2, "fp8: more tokens a step spill"},
    {256, 0, 64, 96, 2, "fp8: few rows"},
};
constexpr Sm90Tile kSm90Fp8RowTiles[] = {
    {128, 64, 128, 128, 3, "fp8: rows are gathered"},
    {128, 0, 64, 128, 3, "fp8: the same, few rows"},
    {256, 0, 64, 96, 2, "fp8: the same, large heads: two consumers spill"},
};

// The copy engine brings boxes of at least this many rows of k and v, and whole repeats of the
// swizzle.
constexpr int kSmallestBox = 16, kSwizzleRows = 8;

bool boxes_fit(const AttentionDemand& demand, const Sm90Tile& tile) {
  if (demand.group_size > tile.tile_q) return false;
  if (demand.page_size == 0) return true;
  const int box_rows = std::gcd(demand.page_size, tile.tile_kv);
  return box_rows >= kSmallestBox && box_rows % kSwizzleRows == 0 &&
         demand.fixed_split_size % box_rows == 0;
}

int head_dim(const AttentionConfig& shape) {
  return std::max(shape.head_dim_qk, shape.head_dim_vo);
}

void add_sm90(const AttentionDemand& demand, std::vector<AttentionChoice>& choices) {
  if (demand.compute_major != 9 || demand.shape.kv_dtype != demand.shape.q_dtype) return;
  const auto add = [&](const Sm90Tile& t, bool boxes) {
    if (head_dim(demand.shape) > t.max_head_dim) return;
    if (t.min_rows > 0 && demand.mean_packed_rows <= t.min_rows) return;
    if (boxes && !boxes_fit(demand, t)) return;
    AttentionConfig c = demand.shape;
    c.kernel = AttentionKernel::sm90;
    c.tile_q = t.tile_q;
    c.tile_kv = t.tile_kv;
    c.warps_q = t.tile_q / 16;
    c.num_stages = t.num_stages;
    c.boxes = boxes;
    choices.push_back({c, t.reason});
  };
  if (kernels::is_fp8(demand.shape.q_dtype)) {
    for (const Sm90Tile& t : kSm90Fp8BoxTiles) add(t, true);
    for (const Sm90Tile& t : kSm90Fp8RowTiles) add(t, false);
    return;
  }
  for (const Sm90Tile& t : kSm90BoxTiles) add(t, true);
  for (const Sm90Tile& t : kSm90RowTiles) add(t, false);
}

void add_sm80(const AttentionDemand& demand, std::vector<AttentionChoice>& choices) {
  if (kernels::is_fp8(demand.shape.q_dtype)) return;
  for (const Tile& t : kSm80Tiles) {
    if (head_dim(demand.shape) > t.max_head_dim) continue;
    if (demand.mean_packed_rows > t.max_rows ||
        (t.min_rows > 0 && demand.mean_packed_rows <= t.min_rows)) {
      continue;
    }
    AttentionConfig c = demand.shape;
    c.kernel = AttentionKernel::sm80;
    c.tile_q = t.tile_q;
    c.tile_kv = t.tile_kv;
    c.warps_q = t.warps_q;
    c.warps_kv = t.warps_kv;
    c.num_stages = 2;
    choices.push_back({c, t.reason});
  }
}

std::string fp8_queries_unsupported(const AttentionDemand& demand) {
  if (demand.compute_major != 9) {
    return "q_dtype: got f8e4m3, expected f16 or bf16 on CUDA: fp8 queries are only on Hopper";
  }
  if (!demand.shape.softmax) {
    return "variant: got one without softmax, expected one with it for f8e4m3 queries on CUDA: "
           "its weights may leave the range of 8 bits";
  }
  return "";
}

const char* dtype_name(DType dtype) { return kernels::literal(dtype) + sizeof("DType::") - 1; }

}  // namespace

std::string attention_unsupported(const AttentionDemand& demand) {
  const AttentionConfig& shape = demand.shape;
  if (shape.q_dtype == DType::f8e4m3) {
    if (const std::string reason = fp8_queries_unsupported(demand); !reason.empty()) return reason;
  } else if (shape.q_dtype != DType::f16 && shape.q_dtype != DType::bf16) {
    return fmt::format("q_dtype: got {}, expected f16 or bf16 on CUDA", dtype_name(shape.q_dtype));
  }
  if (shape.kv_dtype != shape.q_dtype && !kernels::is_fp8(shape.kv_dtype)) {
    return fmt::format("kv_dtype: got {}, expected {} (as q_dtype), f8e4m3 or f8e5m2 on CUDA",
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

std::vector<AttentionChoice> attention_choices(const AttentionDemand& demand) {
  const std::string forced = env::get("QUIRE_FORCE_KERNEL").value_or("");
  if (!forced.empty() && forced != "sm80" && forced != "sm90") {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("attention: QUIRE_FORCE_KERNEL: got {}, expected sm80 or sm90", forced));
  }
  std::vector<AttentionChoice> choices;
  if (forced != "sm80") add_sm90(demand, choices);
  if (forced != "sm90") add_sm80(demand, choices);
  return choices;
}

AttentionConfig unaligned_attention(AttentionConfig planned) {
  planned.aligned = false;
  if (!planned.boxes) return planned;
  planned.boxes = false;
  if (planned.head_dim_vo > 128 || planned.tile_q == 192) planned.num_stages = 2;
  if (planned.tile_q == 192)
    planned.tile_kv = 64;  // registers for gathering; splits are any tokens
  return planned;
}

int attention_tile_rows(const AttentionConfig& config, int group_size) {
  return config.boxes ? config.tile_q / group_size * group_size : config.tile_q;
}

int attention_smem_bytes(const AttentionConfig& config) {
  return config.kernel == AttentionKernel::sm90 ? kernels::sm90_layout(config).bytes
                                                : kernels::sm80_layout(config).bytes;
}

int attention_threads(const AttentionConfig& config) {
  return config.kernel == AttentionKernel::sm90 ? kernels::sm90_layout(config).threads
                                                : kernels::sm80_layout(config).threads;
}

}  // namespace quire::cuda
