#include "cuda/attention_decode.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "cuda/attention_kv_boxes.h"
#include "cuda/tensor_map.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionParams;

constexpr int kPanelBytes = 128;  // of a row

struct Kv {
  const void* data;
  std::int64_t page_stride, token_stride, head_stride;
  int head_dim;
};

// Tokens of a run of the page table, or of ragged rows, that are one copy.
int tokens_of_a_copy(const AttentionConfig& config, int page_size) {
  const auto tokens = static_cast<unsigned>(std::gcd(page_size, config.tile_kv));
  return static_cast<int>(tokens);  // a divisor of 16 or 32: a power of two
}

BoxedTensor boxed_kv(const AttentionConfig& config, const AttentionParams& p, const Kv& kv) {
  const bool paged = p.page_size > 0;
  const int element_bytes = kernels::size_bytes(config.kv_dtype);
  const int panel = kPanelBytes / element_bytes, panels = kv.head_dim / panel;
  BoxedTensor tensor{.rank = 5,
                     .data = kv.data,
                     .shape = {panel, paged ? p.page_size : p.total_kv, panels, p.num_kv_heads,
                               paged ? p.num_pages : 1},
                     .strides = {kv.token_stride, panel, kv.head_stride, kv.page_stride},
                     .box = {panel, tokens_of_a_copy(config, p.page_size), panels, 1, 1},
                     .element_bytes = element_bytes};
  if (p.total_kv == 0 && p.num_pages == 0) {
    // Nothing is there and no token of it is used; the map must be of some memory all the same.
    tensor.data = p.q;
    tensor.shape = {std::min(config.head_dim_qk, config.head_dim_vo), 1, 1, 1, 1};
  }
  return tensor;
}

// Few K and V had better leave L2 at once: what else is there, and dirty, need not be written back
// meanwhile (b1 kv8192 32/8 on an H100: 22.5 us, not 24.6). From about here on they would push each
// other out, and b64 kv2048 takes 199 us, not 193.
constexpr int kFewCaches = 4;

bool are_few(const AttentionConfig& config, const AttentionParams& p, std::int64_t l2_bytes) {
  const std::int64_t tokens =
      p.page_size > 0 ? std::int64_t{p.num_indices} * p.page_size : p.total_kv;
  const std::int64_t token_bytes = std::int64_t{config.head_dim_qk + config.head_dim_vo} *
                                   kernels::size_bytes(config.kv_dtype) * p.num_kv_heads;
  return tokens * token_bytes < kFewCaches * l2_bytes;
}

// Beside another kernel K and V had better leave L2 at once too: what that one reads again and
// again stays. Many of them evicted normally are read at up to 3.9 TB/s, for the halves of L2 then
// pass on more to each other: all that an H100's memory gives, 1 % faster than by default, but not
// what an H200's gives (b128 kv4096 32/8: 554 us, 504 by default).
kernels::KvEviction eviction_of(const AttentionConfig& config, const AttentionParams& p,
                                const DeviceLimits& limits, bool beside) {
  constexpr double kBytesPerSecond = 3.5e12;
  if (beside || are_few(config, p, limits.l2_bytes)) return kernels::KvEviction::first;
  return limits.memory_bytes_per_s > kBytesPerSecond ? kernels::KvEviction::unchanged
                                                     : kernels::KvEviction::normal;
}

}  // namespace

kernels::AttentionDecodeParams decode_params(const AttentionConfig& config,
                                             const AttentionParams& params,
                                             const DeviceLimits& limits, bool beside) {
  const AttentionParams& p = params;
  const auto tokens = static_cast<unsigned>(tokens_of_a_copy(config, p.page_size));
  kernels::AttentionDecodeParams decode{.attention = p,
                                        .page_shift = page_shift(p.page_size),
                                        .copy_shift = std::countr_zero(tokens),
                                        .eviction = eviction_of(config, p, limits, beside),
                                        .workers_per_head = p.num_workers / p.num_kv_heads,
                                        .beside = beside};
  if (!config.boxes) return decode;
  const Kv k{p.k, p.k_page_stride, p.k_token_stride, p.k_head_stride, config.head_dim_qk};
  const Kv v{p.v, p.v_page_stride, p.v_token_stride, p.v_head_stride, config.head_dim_vo};
  decode.k = make_tensor_map(boxed_kv(config, p, k));
  decode.v = make_tensor_map(boxed_kv(config, p, v));
  return decode;
}

// Fitted to batches of 32 to 192 tiles of 512 to 4,096 tokens on an H100. More rows, and tokens of
// 8 bits, take a worker longer than reading; rows that are gathered come later than boxes.
double decode_memory_share(const kernels::AttentionConfig& config, double memory_speed) {
  if (config.kernel != kernels::AttentionKernel::decode) return 1;
  const bool small_fp8 = kernels::is_fp8(config.kv_dtype) && config.head_dim_vo < 128;
  const auto share = [&] {
    if (config.tile_q > 16 || small_fp8) return 0.85;
    if (!config.boxes) return 0.6;
    return config.tile_q > 8 || kernels::is_fp8(config.kv_dtype) ? 0.52 : 0.35;
  };
  return std::min(share() * memory_speed, 1.);
}

int decode_cut_cost(const kernels::AttentionConfig& config) {
  if (config.kernel != kernels::AttentionKernel::decode) return 0;
  constexpr int kTokens = 120, kBytes = 512;  // tokens of so many bytes
  const int bytes =
      (config.head_dim_qk + config.head_dim_vo) * kernels::size_bytes(config.kv_dtype);
  return kTokens * kBytes / bytes * (config.tile_q > 16 ? 3 : 2) / 2;
}

// Tiles of attention_sm90 take 12 to 16 ns for a token on an H100, tiles of 192 gathered rows 19.
// 64 of its 132 multiprocessors read boxes as fast as memory allows; more only lengthen the queues
// that both kernels wait in: 128 tokens on 8,192 others and 6,000 rows on 7,000 take 1578 us with
// 64, 1646 with 72. Gathering takes more of them. Where multiprocessors convert 8 bits, or gather
// rows of 64 columns for the prompts or for more than 8 rows, both at once are no faster. Tokens of
// 8 bits come first then: blocks must start at the same time to read the heads of a page at the
// same time. Faster memory takes more multiprocessors (an H200's 1.47 times as many); where it
// takes nearly all, both at once are no faster either.
plan::FewRowsTile few_rows_tile(const kernels::AttentionConfig& few,
                                const kernels::AttentionConfig& many, double memory_speed) {
  plan::FewRowsTile tile{.tile_q = few.tile_q, .tile_kv = few.tile_kv};
  const bool small_heads = many.head_dim_qk < 128;
  if (kernels::is_fp8(few.kv_dtype)) {
    tile.two = plan::TwoKernels::few_first;
  } else if (small_heads && (!many.boxes || (!few.boxes && few.tile_q > 8))) {
    tile.two = plan::TwoKernels::few_last;
  } else if (few.boxes) {
    tile.token_cost = 0.85;
    tile.most_workers = 0.49;
  } else if (many.boxes) {  // over a copy
    tile.token_cost = small_heads ? 1.5 : 1.3;
    tile.most_workers = 0.58;
  } else {
    tile.token_cost = 0.87 * 192 / many.tile_q;
    tile.many_start = 800;
    tile.most_workers = 0.67;
  }
  constexpr double kMostShare = 0.75;
  if (tile.two != plan::TwoKernels::at_once) return tile;
  tile.most_workers *= memory_speed;
  if (tile.most_workers > kMostShare) tile.two = plan::TwoKernels::few_last;
  return tile;
}

}  // namespace quire::cuda
