#include "cuda/attention_sm90.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "cuda/attention_kv_boxes.h"
#include "cuda/tensor_map.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using kernels::AttentionConfig;
using kernels::AttentionParams;

constexpr int kPanelBytes = 128;  // of a row
constexpr int kWarpRows = 16;     // of the output tile

struct Kv {
  const void* data;
  std::int64_t page_stride, token_stride, head_stride;
  int head_dim;
};

BoxedTensor boxed_kv(const AttentionConfig& config, const AttentionParams& p, const Kv& kv,
                     int box_rows) {
  const bool paged = p.page_size > 0;
  const int element_bytes = kernels::size_bytes(config.kv_dtype);
  BoxedTensor tensor{.data = kv.data,
                     .shape = {kv.head_dim, paged ? p.page_size : p.total_kv, p.num_kv_heads,
                               paged ? p.num_pages : 1},
                     .strides = {kv.token_stride, kv.head_stride, kv.page_stride},
                     .box = {kPanelBytes / element_bytes, box_rows, 1, 1},
                     .element_bytes = element_bytes};
  if (p.total_kv == 0 && p.num_pages == 0) {
    // Nothing is there and no token of it is used; the map must be of some memory all the same.
    tensor.data = p.q;
    tensor.shape = {std::min(config.head_dim_qk, config.head_dim_vo), 1, 1, 1};
  }
  return tensor;
}

struct Rows {
  const void* data;
  kernels::DType dtype;
  std::int64_t token_stride, head_stride;
  int head_dim;
};

// Packed rows of q or out, `rows` a box.
BoxedTensor boxed_rows(const AttentionParams& p, const Rows& tensor, int rows) {
  const int element_bytes = kernels::size_bytes(tensor.dtype);
  return {.data = tensor.data,
          .shape = {tensor.head_dim, p.group_size, p.total_q, p.num_kv_heads},
          .strides = {tensor.head_stride, tensor.token_stride, tensor.head_stride * p.group_size},
          .box = {kPanelBytes / element_bytes, p.group_size, rows / p.group_size, 1},
          .element_bytes = element_bytes};
}

kernels::Divisor divisor(int d) {
  const int shift = std::bit_width(static_cast<unsigned>(d - 1));
  const std::uint64_t rest = (std::uint64_t{1} << shift) - static_cast<std::uint64_t>(d);
  const std::uint64_t factor = (rest << 32) / static_cast<std::uint64_t>(d) + 1;
  return {.factor = static_cast<kernels::u32>(factor), .shift = static_cast<kernels::u32>(shift)};
}

// Of the rows (i, j) of a tensor, i < outer.count, j < inner.count.
struct Dim {
  std::int64_t count, stride;  // in elements
};
kernels::RowNumbers row_numbers(const char* tensor, Dim outer, Dim inner, int element_bytes) {
  constexpr std::int64_t kMax = std::numeric_limits<std::uint32_t>::max();
  if (outer.count <= 1) outer.stride = 0;
  if (inner.count <= 1) inner.stride = 0;
  const std::int64_t gcd = std::max<std::int64_t>(1, std::gcd(outer.stride, inner.stride));
  const std::int64_t steps[2] = {outer.stride / gcd, inner.stride / gcd};
  const auto last = static_cast<double>(outer.count) * static_cast<double>(steps[0]) +
                    static_cast<double>(inner.count) * static_cast<double>(steps[1]);
  if (steps[0] < 0 || steps[1] < 0 || last >= static_cast<double>(kMax) ||
      gcd * element_bytes > kMax) {
    throw Error(
        ErrorCode::not_implemented,
        fmt::format("attention: {}: got {} x {} rows of strides {} and {}, expected strides "
                    "of 0 and more whose common divisor is at least a 2^32nd of the extent",
                    tensor, outer.count, inner.count, outer.stride, inner.stride));
  }
  return {.unit = static_cast<kernels::u32>(gcd * element_bytes),
          .outer = static_cast<kernels::u32>(steps[0]),
          .inner = static_cast<kernels::u32>(steps[1])};
}

}  // namespace

bool boxes_can_describe(const AttentionParams& p) {
  const auto steps = [](std::int64_t size, std::int64_t stride) { return size <= 1 || stride > 0; };
  return steps(p.total_q, p.q_token_stride) && steps(p.num_qo_heads, p.q_head_stride) &&
         steps(p.total_q, p.out_token_stride) && steps(p.num_qo_heads, p.out_head_stride) &&
         boxes_can_describe_kv(p);
}

kernels::AttentionSm90Params sm90_params(const AttentionConfig& config,
                                         const AttentionParams& params) {
  kernels::AttentionSm90Params sm90{.attention = params,
                                    .page_size = divisor(std::max(params.page_size, 1))};
  const AttentionParams& p = params;
  if (!config.boxes) {
    const bool paged = p.page_size > 0;
    const std::int64_t pages = paged ? p.num_pages : 1, rows = paged ? p.page_size : p.total_kv;
    const int q_bytes = kernels::size_bytes(config.q_dtype);
    const int kv_bytes = kernels::size_bytes(config.kv_dtype);
    sm90.q_rows =
        row_numbers("q", {p.total_q, p.q_token_stride}, {p.num_qo_heads, p.q_head_stride}, q_bytes);
    sm90.k_rows = row_numbers("k", {pages, p.k_page_stride}, {rows, p.k_token_stride}, kv_bytes);
    sm90.v_rows = row_numbers("v", {pages, p.v_page_stride}, {rows, p.v_token_stride}, kv_bytes);
    return sm90;
  }
  sm90.box_rows = p.page_size > 0 ? std::gcd(p.page_size, config.tile_kv) : config.tile_kv;
  sm90.out_boxes = kernels::sm90_layout(config).stages_out && kWarpRows % p.group_size == 0;
  const Kv k{p.k, p.k_page_stride, p.k_token_stride, p.k_head_stride, config.head_dim_qk};
  const Kv v{p.v, p.v_page_stride, p.v_token_stride, p.v_head_stride, config.head_dim_vo};
  sm90.k = make_tensor_map(boxed_kv(config, p, k, sm90.box_rows));
  sm90.v = make_tensor_map(boxed_kv(config, p, v, sm90.box_rows));
  const Rows q{p.q, config.q_dtype, p.q_token_stride, p.q_head_stride, config.head_dim_qk};
  const Rows out{p.out, config.o_dtype, p.out_token_stride, p.out_head_stride, config.head_dim_vo};
  const int stages_of_q = config.tile_q / kernels::sm90_layout(config).q_stage_rows;
  sm90.q = make_tensor_map(boxed_rows(p, q, p.tile_rows / stages_of_q));
  if (sm90.out_boxes) sm90.out = make_tensor_map(boxed_rows(p, out, kWarpRows));
  return sm90;
}

}  // namespace quire::cuda
