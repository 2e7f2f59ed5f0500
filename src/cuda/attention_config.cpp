#include "cuda/attention_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attention/attention_copy_kv_types.h"
#include "attention/attention_decode_layout.h"
#include "attention/attention_sm80_layout.h"
#include "attention/attention_sm90_layout.h"
#include "core/env.h"
#include "cuda/attention_table.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionKernel;
using kernels::DType;
using namespace attention_table;

// The copy engine brings boxes of at least this many rows of k and v, and whole repeats of the
// swizzle.
constexpr int kSmallestBox = 16, kSwizzleRows = 8, kPanelBytes = 128;

// All of a row of K or V, and rows that begin where the swizzle repeats.
bool decode_boxes_fit(const AttentionDemand& demand) {
  const AttentionConfig& shape = demand.shape;
  const int row_bytes =
      std::gcd(shape.head_dim_qk, shape.head_dim_vo) * kernels::size_bytes(shape.kv_dtype);
  return demand.compute_major >= 9 && row_bytes % kPanelBytes == 0 &&
         demand.page_size % kSwizzleRows == 0;
}

int decode_tile_rows(const Row& row, const AttentionDemand& demand) {
  int rows = 8;
  while (rows < row.tile_q && rows < demand.max_packed_rows) rows *= 2;
  return rows;
}

// max_head_dim counts elements of 16 bits; rows take whole panels of shared memory.
bool decode_serves(const Row& row, const AttentionDemand& demand) {
  const AttentionConfig& shape = demand.shape;
  const int bytes =
      std::max(shape.head_dim_qk, shape.head_dim_vo) * kernels::size_bytes(shape.kv_dtype);
  const int row_bytes = (bytes + kPanelBytes - 1) / kPanelBytes * kPanelBytes;
  return row_bytes <= 2 * row.max_head_dim &&
         decode_tile_rows(row, demand) * shape.head_dim_vo <= kernels::kDecodeMaxAccumulators &&
         demand.max_packed_rows <= row.max_rows && shape.variant == kernels::VariantKind::none &&
         (!row.boxes || decode_boxes_fit(demand));
}

// Of rows that end inside a panel boxes read more than the row: large batches of few rows, which
// wait for memory, take 12 to 36 % longer than by gathering (head_dim 80 and 96; small ones 6 %
// less). Copies are made for boxes.
bool reads_too_much(const AttentionDemand& demand, const Row& row) {
  constexpr int kPanelColumns = kPanelBytes / 2;
  const int columns = std::gcd(demand.shape.head_dim_qk, demand.shape.head_dim_vo);
  return row.tile_q == 64 && row.kv_bits == 16 && columns % kPanelColumns != 0 &&
         demand.num_tiles >= demand.num_sms && !demand.copies_kv;
}

bool boxes_fit(const AttentionDemand& demand, const Row& row) {
  if (demand.group_size > row.tile_q || reads_too_much(demand, row)) return false;
  if (demand.page_size == 0) return true;
  const int box_rows = std::gcd(demand.page_size, row.tile_kv);
  return box_rows >= kSmallestBox && box_rows % kSwizzleRows == 0 &&
         demand.fixed_split_size % box_rows == 0;
}

// The number of tiles below which a row stands on Hopper.
double tiles_below(const Row& row, int num_sms) {
  if (row.where == few) return num_sms;
  return row.where == fewer ? num_sms / 4. : kAny;
}

bool serves(const Row& row, const AttentionDemand& demand) {
  const AttentionConfig& shape = demand.shape;
  if (row.q_bits != 8 * kernels::size_bytes(shape.q_dtype)) return false;
  if (row.kv_bits != 0 && row.kv_bits != 8 * kernels::size_bytes(shape.kv_dtype)) return false;
  if (row.where == beside_decode && !demand.beside_decode) return false;
  if (demand.compute_major == 9 && demand.num_tiles >= tiles_below(row, demand.num_sms))
    return false;
  if (row.kernel == decode) return decode_serves(row, demand);
  if (std::max(shape.head_dim_qk, shape.head_dim_vo) > row.max_head_dim) return false;
  if (demand.mean_packed_rows <= row.min_rows || demand.mean_packed_rows > row.max_rows) {
    return false;
  }
  if (row.kernel == sm80) return true;
  return demand.compute_major == 9 && demand.group_size <= kernels::kSm90MaxGroupSize &&
         (!row.boxes || boxes_fit(demand, row));
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

namespace {

// Of the time over a copy: gathered rows, and an fp8 cache, which is converted for every tile.
double lost_without_copy(const AttentionConfig& config) {
  const bool large_heads = config.head_dim_vo > 128;
  if (config.kv_dtype != config.q_dtype) return large_heads ? 0.7 : 0.37;
  return large_heads && !kernels::is_fp8(config.q_dtype) ? 0.1 : 0.25;
}

}  // namespace

plan::KvCopyCost copy_cost(const AttentionConfig& config) {
  const bool converts = config.kv_dtype != config.q_dtype;
  if (config.kernel != sm90 || (config.boxes && !converts)) return {};
  // Of an H100: products of 16 bits at 650 TFLOP/s, a copy at 2.6 TB/s, 4 us to start.
  constexpr double kOperationsPerByte = 250, kStartOperations = 2.6e9;
  const int bytes =
      kernels::size_bytes(config.kv_dtype) + kernels::size_bytes(kernels::copied_dtype(config));
  return {.lost = lost_without_copy(config),
          .token = bytes * kOperationsPerByte / 2,
          .start = kStartOperations / (2 * (config.head_dim_qk + config.head_dim_vo))};
}

double rows_class(double packed_rows) {
  double smallest = kAny;  // of the table's limits that are not below
  for (const Row& row : kTable) {
    for (const double limit : {row.min_rows, row.max_rows}) {
      if (limit >= packed_rows) smallest = std::min(smallest, limit);
    }
  }
  return smallest;
}

double tiles_class(double num_tiles, int num_sms) {
  double largest = 0;  // of the table's limits that are not above
  for (const Row& row : kTable) {
    const double limit = tiles_below(row, num_sms);
    if (limit <= num_tiles) largest = std::max(largest, limit);
  }
  return largest;
}

namespace {

// Throws invalid_argument for a kernel there is not.
bool is_wanted(AttentionKernel kernel, const std::string& forced) {
  if (forced.empty()) return true;
  if (forced == "sm80") return kernel == sm80;
  if (forced == "sm90") return kernel == sm90;
  if (forced == "decode") return kernel == decode;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("attention: QUIRE_FORCE_KERNEL: got {}, expected sm80, sm90 or decode", forced));
}

AttentionConfig configured(const Row& row, const AttentionDemand& demand) {
  AttentionConfig c = demand.shape;
  c.kernel = row.kernel;
  c.boxes = row.boxes;
  c.tile_q = row.tile_q;
  c.tile_kv = row.tile_kv;
  c.warps_q = row.warps_q;
  c.warps_kv = row.warps_kv;
  c.num_stages = row.num_stages;
  if (row.kernel == decode) {
    c.tile_q = decode_tile_rows(row, demand);
    c.row_tiles = c.tile_q / 8;
  }
  return c;
}

AttentionDemand over_copy(AttentionDemand demand) {
  AttentionConfig& shape = demand.shape;
  shape.widened = kernels::is_fp8(shape.kv_dtype) && !kernels::is_fp8(shape.q_dtype);
  shape.kv_dtype = kernels::copied_dtype(shape);
  demand.page_size = 0;
  return demand;
}

// Where each warpgroup has stages of q of its own, boxes of whole tokens must fill them.
bool fills_stages_of_q(const AttentionConfig& config, int group_size) {
  if (config.kernel != sm90 || !config.boxes) return true;
  const int rows = kernels::sm90_layout(config).q_stage_rows;
  return rows == config.tile_q || rows % group_size == 0;
}

}  // namespace

std::vector<AttentionChoice> attention_choices(const AttentionDemand& wanted) {
  const AttentionDemand demand = wanted.copies_kv ? over_copy(wanted) : wanted;
  const std::string forced = env::get("QUIRE_FORCE_KERNEL").value_or("");
  std::vector<AttentionChoice> choices;
  for (const Row& row : kTable) {
    if (!is_wanted(row.kernel, forced) || !serves(row, demand)) continue;
    const AttentionConfig config = configured(row, demand);
    if (!fills_stages_of_q(config, demand.group_size)) continue;
    choices.push_back({config, row.reason});
  }
  return choices;
}

AttentionConfig row_attention(AttentionConfig planned, bool aligned) {
  planned.aligned = aligned;
  if (!planned.boxes) return planned;
  planned.boxes = false;
  if (planned.kernel == decode) return planned;
  if (planned.head_dim_vo > 128 || planned.tile_q == 192) planned.num_stages = 2;
  // Gathering takes the registers of some tokens; splits are any tokens.
  if (planned.tile_q == 192) planned.tile_kv = 64;
  if (planned.tile_q == 128 && planned.kv_dtype != planned.q_dtype) {
    planned.tile_kv = planned.tile_kv * 3 / 4 / 16 * 16;
  }
  return planned;
}

int attention_tile_rows(const AttentionConfig& config, int group_size) {
  return config.kernel == sm90 && config.boxes ? config.tile_q / group_size * group_size
                                               : config.tile_q;
}

int attention_smem_bytes(const AttentionConfig& config) {
  switch (config.kernel) {
    case sm90:
      return kernels::sm90_layout(config).bytes;
    case decode:
      return kernels::decode_layout(config).bytes;
    default:
      return kernels::sm80_layout(config).bytes;
  }
}

int attention_threads(const AttentionConfig& config) {
  switch (config.kernel) {
    case sm90:
      return kernels::sm90_layout(config).threads;
    case decode:
      return kernels::decode_layout(config).threads;
    default:
      return kernels::sm80_layout(config).threads;
  }
}

}  // namespace quire::cuda
