#include "cuda/attention_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "attention/attention_copy_kv_types.h"
#include "attention/attention_decode_layout.h"
#include "attention/attention_sm80_layout.h"
#include "attention/attention_sm90_layout.h"
#include "core/env.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionKernel;
using kernels::DType;

constexpr double kAny = 1e30;

// Where a row of the table stands. few_tiles: everywhere but on Hopper with many tiles, where
// attention_sm90 takes less; of fewer than multiprocessors it would cut KV, and merge by a second
// launch.
enum class Where : std::uint8_t { anywhere, beside_decode, few_tiles };
constexpr auto beside_decode = Where::beside_decode;
constexpr auto few = Where::few_tiles;

// A row of the table: for head dims up to max_head_dim and min_rows < packed rows <= max_rows, on
// average, of decode at most. Decode takes the smallest tile_q of 8, 16, … that holds a request,
// the row's at most.
struct Row {
  AttentionKernel kernel;
  int q_bits, kv_bits;  // of an element; kv_bits 0: 8 or 16
  bool boxes;
  int max_head_dim;
  double min_rows, max_rows;
  int tile_q, tile_kv, warps_q, warps_kv, num_stages;
  const char* reason;
  Where where = Where::anywhere;
};
constexpr auto sm80 = AttentionKernel::sm80;
constexpr auto sm90 = AttentionKernel::sm90;
constexpr auto decode = AttentionKernel::decode;

// Best first. Figures: H100 80GB HBM3, docs/kernels/attention_sm80.md and attention_sm90.md.
constexpr Row kTable[] = {
    {decode, 16, 0, true, 64, -1, 8, 8, 32, 1, 8, 2,
     "decode: 128 KB on their way a multiprocessor"},
    {decode, 16, 0, true, 128, -1, 8, 8, 16, 1, 8, 2,
     "decode: 128 KB on their way a multiprocessor"},
    {decode, 16, 0, true, 192, -1, 8, 8, 16, 1, 7, 2,
     "decode: two stages of eight warps do not fit"},
    {decode, 16, 0, true, 256, -1, 8, 8, 16, 1, 7, 1, "decode: one stage is 112 KB"},
    {decode, 16, 16, true, 64, -1, 16, 16, 32, 1, 7, 2, "decode: with more warps it spills", few},
    {decode, 16, 16, true, 128, -1, 16, 16, 16, 1, 7, 2, "decode: with more warps it spills", few},
    {decode, 16, 16, true, 192, -1, 16, 16, 16, 1, 7, 2, "decode, large heads", few},
    {decode, 16, 16, true, 256, -1, 16, 16, 16, 1, 7, 1, "decode: one stage is 112 KB", few},
    {decode, 16, 8, true, 192, -1, 16, 16, 16, 1, 7, 2, "decode, fp8 cache: 8 % over 64 rows"},
    {decode, 16, 8, true, 256, -1, 16, 16, 16, 1, 7, 1, "decode, fp8 cache"},
    {decode, 16, 0, false, 64, -1, 8, 8, 32, 1, 8, 2, "decode, no boxes"},
    {decode, 16, 0, false, 128, -1, 8, 8, 16, 1, 8, 2, "decode, no boxes"},
    {decode, 16, 16, false, 64, -1, 16, 16, 32, 1, 7, 2, "decode, no boxes", few},
    {decode, 16, 16, false, 128, -1, 16, 16, 16, 1, 7, 2, "decode, no boxes", few},
    {sm90, 16, 16, true, 64, 128, kAny, 192, 112, 12, 1, 3,
     "three consumers: 30 % over two; 128 tokens spill"},
    {sm90, 16, 16, true, 64, 8, kAny, 64, 128, 4, 1, 3, "few rows"},
    {sm90, 16, 16, true, 128, 64, kAny, 128, 128, 8, 1, 3, "two consumers share K and V"},
    {sm90, 16, 16, true, 128, 8, kAny, 64, 128, 4, 1, 2, "few rows"},
    {sm90, 16, 16, true, 192, 64, kAny, 128, 96, 8, 1, 2, "two stages of q, k and v fit"},
    {sm90, 16, 16, true, 192, 8, kAny, 64, 96, 4, 1, 2, "few rows"},
    {sm90, 16, 16, true, 256, 64, kAny, 128, 64, 8, 1, 2, "80 tokens: 2 % less, 48: 7 %"},
    {sm90, 16, 16, true, 256, 64, kAny, 128, 64, 8, 1, 3,
     "groups that do not fill stages of 64 rows of q: K has the third stage"},
    {sm90, 16, 16, true, 256, 8, kAny, 64, 64, 4, 1, 2, "few rows"},
    {sm90, 16, 16, false, 64, 128, kAny, 192, 64, 12, 1, 6,
     "no boxes: 4 % over two consumers; more tokens spill"},
    {sm90, 16, 16, false, 64, 64, kAny, 128, 128, 8, 1, 3, "no boxes, small heads"},
    {sm90, 16, 16, false, 128, 8000, kAny, 192, 64, 12, 1, 4,
     "no boxes, while decode reads: three consumers share what is gathered", beside_decode},
    {sm90, 16, 16, false, 128, 64, kAny, 128, 128, 8, 1, 3,
     "no boxes: small pages, groups over a tile"},
    {sm90, 16, 16, false, 128, 8, kAny, 64, 128, 4, 1, 2, "no boxes, few rows"},
    {sm90, 16, 16, false, 192, 64, kAny, 128, 96, 8, 1, 2, "no boxes, large heads"},
    {sm90, 16, 16, false, 192, 8, kAny, 64, 96, 4, 1, 2, "no boxes, large heads, few rows"},
    {sm90, 16, 16, false, 256, 64, kAny, 128, 64, 8, 1, 2, "no boxes, large heads"},
    {sm90, 16, 16, false, 256, 8, kAny, 64, 64, 4, 1, 2, "no boxes, large heads, few rows"},
    {sm90, 16, 8, true, 64, 64, kAny, 128, 128, 8, 1, 3, "fp8 cache: a warpgroup converts it"},
    {sm90, 16, 8, true, 128, 64, kAny, 128, 128, 8, 1, 2, "fp8 cache: a warpgroup converts it"},
    {sm90, 16, 8, true, 128, 16, kAny, 64, 128, 4, 1, 2, "fp8 cache, few rows"},
    {sm90, 16, 8, true, 192, 64, kAny, 128, 96, 8, 1, 2, "fp8 cache, large heads"},
    {sm90, 16, 8, true, 192, 16, kAny, 64, 96, 4, 1, 2, "fp8 cache, large heads, few rows"},
    {sm90, 16, 8, true, 256, 64, kAny, 128, 48, 8, 1, 2, "fp8 cache: more tokens a step spill"},
    {sm90, 16, 8, true, 256, 16, kAny, 64, 64, 4, 1, 2, "fp8 cache, few rows"},
    {sm90, 16, 8, false, 128, 64, kAny, 128, 128, 8, 1, 2, "fp8 cache, no boxes"},
    {sm90, 16, 8, false, 128, 16, kAny, 64, 128, 4, 1, 2, "fp8 cache, no boxes, few rows"},
    {sm90, 16, 8, false, 192, 64, kAny, 128, 96, 8, 1, 2, "fp8 cache, no boxes, large heads"},
    {sm90, 16, 8, false, 256, 16, kAny, 64, 64, 4, 1, 2, "fp8 cache, no boxes: two spill"},
    {decode, 16, 0, true, 64, -1, 32, 32, 16, 1, 7, 4,
     "decode: on Hopper 64 rows take half to nine tenths of the time of 32 here"},
    {decode, 16, 0, true, 128, -1, 32, 32, 16, 1, 7, 2,
     "decode: on Hopper 64 rows take half to nine tenths of the time of 32 here"},
    {decode, 16, 0, false, 64, -1, 16, 16, 32, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 64, -1, 32, 32, 16, 1, 7, 4, "decode, no boxes"},
    {decode, 16, 0, false, 128, -1, 32, 32, 16, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 192, -1, 16, 16, 16, 1, 7, 2, "decode, no boxes"},
    {decode, 16, 0, false, 256, -1, 16, 16, 16, 1, 7, 1, "decode, no boxes"},
    {decode, 16, 0, false, 64, -1, 32, 32, 16, 1, 5, 4, "decode, less shared memory"},
    {decode, 16, 0, false, 128, -1, 32, 32, 16, 1, 5, 2, "decode, less shared memory"},
    {decode, 16, 0, false, 256, -1, 16, 16, 16, 1, 5, 1, "decode, less shared memory"},
    {decode, 16, 0, false, 64, -1, 16, 16, 32, 1, 3, 2, "decode, little shared memory"},
    {decode, 16, 0, false, 128, -1, 16, 16, 16, 1, 3, 2, "decode, little shared memory"},
    {decode, 16, 0, false, 256, -1, 8, 8, 16, 1, 3, 1, "decode, little shared memory"},
    {sm80, 16, 0, false, 128, -1, 16, 16, 64, 1, 4, 2,
     "decode: warps share the tokens, not the rows"},
    {sm80, 16, 0, false, 256, -1, 16, 16, 32, 1, 2, 2,
     "decode: warps share the tokens, not the rows"},
    {sm80, 16, 0, false, 64, 16, kAny, 64, 64, 4, 1, 2, "128 rows lose 7 % at head_dim 64"},
    {sm80, 16, 0, false, 128, 64, kAny, 128, 64, 8, 1, 2,
     "K and V shared by 128 rows: 20 % over 64"},
    {sm80, 16, 0, false, 128, 16, kAny, 64, 64, 4, 1, 2, "few rows, or little shared memory"},
    {sm80, 16, 0, false, 256, 64, kAny, 128, 32, 8, 1, 2,
     "registers are left for 32 tokens a step only"},
    {sm80, 16, 0, false, 256, 16, kAny, 64, 32, 4, 1, 2, "few rows, or little shared memory"},
    {sm80, 16, 0, false, 256, 16, kAny, 32, 32, 2, 1, 2, "little shared memory"},
    {decode, 16, 0, false, 64, -1, kAny, 32, 32, 1, 3, 2, "when forced: any number of rows"},
    {decode, 16, 0, false, 128, -1, kAny, 16, 16, 1, 3, 2, "when forced: any number of rows"},
    {decode, 16, 0, false, 256, -1, kAny, 8, 16, 1, 3, 1, "when forced: any number of rows"},
    {sm90, 16, 16, true, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, true, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, false, 128, -1, 16, 64, 128, 4, 1, 2,
     "when forced: decode by the Hopper kernel"},
    {sm90, 16, 16, false, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, true, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, true, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, false, 128, -1, 16, 64, 128, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 16, 8, false, 256, -1, 16, 64, 64, 4, 1, 2, "when forced: decode by the Hopper kernel"},
    {sm90, 8, 8, true, 64, 128, kAny, 192, 128, 12, 1, 3,
     "fp8, small heads: three consumers, 3 to 10 % over two"},
    {sm90, 8, 8, true, 128, 64, kAny, 128, 128, 8, 1, 3, "fp8: two consumers share K and V"},
    {sm90, 8, 8, true, 128, -1, kAny, 64, 128, 4, 1, 3, "fp8, few rows: no other kernel has it"},
    {sm90, 8, 8, true, 256, 64, kAny, 128, 64, 8, 1, 2, "fp8: more tokens a step spill"},
    {sm90, 8, 8, true, 256, -1, kAny, 64, 96, 4, 1, 2, "fp8, few rows"},
    {sm90, 8, 8, false, 128, 64, kAny, 128, 128, 8, 1, 3, "fp8, no boxes"},
    {sm90, 8, 8, false, 128, -1, kAny, 64, 128, 4, 1, 3, "fp8, no boxes, few rows"},
    {sm90, 8, 8, false, 256, -1, kAny, 64, 96, 4, 1, 2, "fp8, no boxes: two consumers spill"},
};

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

// Of rows that end inside a panel boxes read more than the row: batches of few rows, which wait for
// memory, take 12 to 36 % longer than by gathering (head_dim 80 and 96). Copies are made for boxes.
bool reads_too_much(const AttentionDemand& demand, const Row& row) {
  constexpr int kPanelColumns = kPanelBytes / 2;
  const int columns = std::gcd(demand.shape.head_dim_qk, demand.shape.head_dim_vo);
  return row.tile_q == 64 && row.kv_bits == 16 && columns % kPanelColumns != 0 && !demand.copies_kv;
}

bool boxes_fit(const AttentionDemand& demand, const Row& row) {
  if (demand.group_size > row.tile_q || reads_too_much(demand, row)) return false;
  if (demand.page_size == 0) return true;
  const int box_rows = std::gcd(demand.page_size, row.tile_kv);
  return box_rows >= kSmallestBox && box_rows % kSwizzleRows == 0 &&
         demand.fixed_split_size % box_rows == 0;
}

bool serves(const Row& row, const AttentionDemand& demand) {
  const AttentionConfig& shape = demand.shape;
  if (row.q_bits != 8 * kernels::size_bytes(shape.q_dtype)) return false;
  if (row.kv_bits != 0 && row.kv_bits != 8 * kernels::size_bytes(shape.kv_dtype)) return false;
  if (row.where == beside_decode && !demand.beside_decode) return false;
  if (row.where == few && demand.compute_major == 9 && demand.num_tiles >= demand.num_sms) {
    return false;
  }
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

double tiles_class(double num_tiles, int num_sms) { return num_tiles < num_sms ? 0 : num_sms; }

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
  if (planned.tile_q == 192)
    planned.tile_kv = 64;  // registers for gathering; splits are any tokens
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
