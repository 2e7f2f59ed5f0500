#include "ops/attention_extent.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/check.h"
#include "ops/attention_plan.h"
#include "ops/attention_variant.h"
#include "plan/attention_bounds.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan";
constexpr const char* kFixed = "fixed by the first plan for CUDA graphs";

void check_same(std::string_view name, std::int64_t got, std::int64_t expected) {
  if (got == expected) return;
  check::fail(kOp, name, fmt::format("{}", got), fmt::format("{}, {}", expected, kFixed));
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
  const auto same_name = [](std::string_view argument, std::string_view a, std::string_view b) {
    if (a != b) check::fail(kOp, argument, std::string(a), fmt::format("{}, {}", b, kFixed));
  };
  same_name("q_dtype", name(got.q_dtype), name(expected.q_dtype));
  same_name("kv_dtype", name(got.kv_dtype), name(expected.kv_dtype));
  same_name("o_dtype", name(got.o_dtype), name(expected.o_dtype));
  const auto layout = [](KvLayout l) { return l == KvLayout::nhd ? "NHD" : "HND"; };
  same_name("layout", layout(got.layout), layout(expected.layout));
}

}  // namespace

AttentionExtent exact_extent(const PlannedAttention& planned) {
  return {.num_items = static_cast<std::int64_t>(planned.work.items.size()),
          .num_merges = static_cast<std::int64_t>(planned.work.merges.size()),
          .num_partial_rows = planned.work.num_partial_rows,
          .num_kv_entries = planned.lengths.kv_entries()};
}

AttentionExtent graph_extent(const PlannedAttention& planned, const AttentionPlanOptions& options) {
  const AttentionShape& shape = planned.shape;
  const AttentionLengths& lengths = planned.lengths;
  const AttentionExtent exact = exact_extent(planned);
  const std::int64_t entries = std::max(options.max_kv_entries, exact.num_kv_entries);
  std::int64_t max_qo_len = 0;
  for (const std::int32_t len : lengths.qo_lens)
    max_qo_len = std::max<std::int64_t>(max_qo_len, len);
  const plan::AttentionBounds bounds =
      plan::attention_bounds({.batch_size = lengths.batch_size(),
                              .total_q = lengths.total_q(),
                              .max_qo_len = max_qo_len,
                              .total_kv = entries * std::max(shape.page_size, 1)},
                             {.group_size = shape.num_qo_heads / shape.num_kv_heads,
                              .num_kv_heads = shape.num_kv_heads,
                              .fixed_split_size = options.fixed_split_size,
                              .disable_split_kv = options.disable_split_kv},
                             planned.tile);
  return {.num_items = std::max(bounds.num_items, exact.num_items),
          .num_merges = std::max(bounds.num_merges, exact.num_merges),
          .num_partial_rows = std::max(bounds.num_partial_rows, exact.num_partial_rows),
          .num_kv_entries = entries};
}

void check_fits_graph(const PlannedAttention& planned, const PlannedAttention& first) {
  check_same_shape(planned.shape, first.shape);
  check_same_variant(planned.custom(), first.custom());
  check_same("batch_size", planned.lengths.batch_size(), first.lengths.batch_size());
  check_same("fixed_split_size", planned.fixed_split_size, first.fixed_split_size);
  check_at_most("rows of q", planned.lengths.total_q(), first.max_total_q);
  const AttentionExtent got = exact_extent(planned);
  check_at_most("kv_indices", got.num_kv_entries, first.extent.num_kv_entries);
  check_at_most("work items", got.num_items, first.extent.num_items);
  check_at_most("merges", got.num_merges, first.extent.num_merges);
  check_at_most("partial rows", got.num_partial_rows, first.extent.num_partial_rows);
}

}  // namespace quire
