#include "ops/attention_reservation.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>

#include "core/check.h"
#include "ops/attention_lengths.h"
#include "ops/attention_options.h"
#include "ops/attention_variant.h"
#include "plan/attention_bounds.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan";
constexpr const char* kFixed = "as reserved";
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

void check_same(std::string_view name, std::int64_t got, std::int64_t expected) {
  if (got == expected) return;
  check::fail(kOp, name, fmt::format("{}", got), fmt::format("{}, {}", expected, kFixed));
}

void check_same_name(std::string_view name, std::string_view got, std::string_view expected) {
  if (got == expected) return;
  check::fail(kOp, name, std::string(got), fmt::format("{}, {}", expected, kFixed));
}

void check_at_most(std::string_view name, std::int64_t got, std::int64_t limit) {
  if (got <= limit) return;
  check::fail(kOp, name, fmt::format("{}", got), fmt::format("at most {}, {}", limit, kFixed));
}

void check_same_shape(const AttentionShape& got, const AttentionShape& expected) {
  check_same("num_qo_heads", got.num_qo_heads, expected.num_qo_heads);
  check_same("num_kv_heads", got.num_kv_heads, expected.num_kv_heads);
  check_same("head_dim_qk", got.head_dim_qk, expected.head_dim_qk);
  check_same("head_dim_vo", got.head_dim_vo, expected.head_dim_vo);
  check_same("page_size", got.page_size, expected.page_size);
  check_same_name("q_dtype", name(got.q_dtype), name(expected.q_dtype));
  check_same_name("kv_dtype", name(got.kv_dtype), name(expected.kv_dtype));
  check_same_name("o_dtype", name(got.o_dtype), name(expected.o_dtype));
  const auto layout = [](KvLayout l) { return l == KvLayout::nhd ? "NHD" : "HND"; };
  check_same_name("layout", layout(got.layout), layout(expected.layout));
}

std::int64_t longest(const std::vector<std::int32_t>& lens) {
  return lens.empty() ? 0 : *std::ranges::max_element(lens);
}

void check_count(std::string_view name, std::int64_t count, std::string_view what) {
  if (count <= kMaxInt32) return;
  check::fail("attention.reserve", name, fmt::format("{} {}", count, what),
              fmt::format("room for at most {}", kMaxInt32));
}

}  // namespace

void check_reservation(const AttentionReservation& reservation) {
  const auto size = [](std::string_view name, std::int64_t value, std::int64_t least) {
    if (value >= least && value <= kMaxInt32) return;
    check::fail("attention.reserve", name, fmt::format("{}", value),
                fmt::format("{} to {}", least, kMaxInt32));
  };
  size("max_batch_size", reservation.max_batch_size, 1);
  size("max_total_q", reservation.max_total_q, 1);
  size("max_qo_len", reservation.max_qo_len, 0);
  size("max_kv_entries", reservation.max_kv_entries, 0);
}

AttentionExtent reserved_extent(const ReservedAttention& reserved) {
  const AttentionShape& shape = reserved.shape;
  const AttentionReservation& limits = reserved.limits;
  const plan::AttentionBounds bounds =
      plan::attention_bounds({.batch_size = limits.max_batch_size,
                              .total_q = limits.max_total_q,
                              .max_qo_len = limits.max_qo_len,
                              .total_kv = limits.max_kv_entries * std::max(shape.page_size, 1)},
                             {.group_size = shape.num_qo_heads / shape.num_kv_heads,
                              .num_kv_heads = shape.num_kv_heads,
                              .fixed_split_size = split_size(reserved.options),
                              .disable_split_kv = reserved.options.disable_split_kv},
                             reserved.tile);
  check_count("max_total_q", bounds.num_items, "work items");
  check_count("max_total_q", bounds.num_partial_rows, "partial rows");
  return {.num_items = bounds.num_items,
          .num_merges = bounds.num_merges,
          .num_partial_rows = bounds.num_partial_rows,
          .num_kv_entries = limits.max_kv_entries,
          .batch_size = limits.max_batch_size};
}

void check_reserved_kind(const AttentionShape& shape, const AttentionPlanOptions& options,
                         const ReservedAttention& reserved) {
  check_same_shape(shape, reserved.shape);
  const AttentionPlanOptions& expected = reserved.options;
  check_same_variant(options.variant ? &*options.variant : nullptr,
                     expected.variant ? &*expected.variant : nullptr);
  check_same("batch_invariant", options.batch_invariant, expected.batch_invariant);
  check_same("disable_split_kv", options.disable_split_kv, expected.disable_split_kv);
  check_same("fixed_split_size", split_size(options), split_size(expected));
}

void check_batch_fits(std::int64_t batch_size, const ReservedAttention& reserved) {
  check_at_most("batch_size", batch_size, reserved.extent.batch_size);
}

void check_fits_reservation(const AttentionLengths& lengths, const plan::AttentionPlanSize& size,
                            const ReservedAttention& reserved) {
  const AttentionExtent& extent = reserved.extent;
  check_batch_fits(lengths.batch_size(), reserved);
  check_at_most("rows of q", lengths.total_q(), reserved.limits.max_total_q);
  check_at_most("rows of q of a request", longest(lengths.qo_lens), reserved.limits.max_qo_len);
  check_at_most("kv_indices", lengths.kv_entries(), extent.num_kv_entries);
  check_at_most("work items", size.num_items, extent.num_items);
  check_at_most("merges", size.num_merges, extent.num_merges);
  check_at_most("partial rows", size.num_partial_rows, extent.num_partial_rows);
}

}  // namespace quire
