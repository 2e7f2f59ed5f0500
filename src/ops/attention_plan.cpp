#include "ops/attention_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "core/check.h"
#include "core/env.h"
#include "ops/attention_options.h"
#include "ops/attention_variant.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan";
constexpr int kMaxHeadDim = 256;

void check_at_least(std::string_view name, std::int64_t value, std::int64_t least) {
  if (value < least) {
    check::fail(kOp, name, fmt::format("{}", value), fmt::format("{} or more", least));
  }
}

void check_head_dim(std::string_view name, int value) {
  if (value >= 16 && value <= kMaxHeadDim && value % 16 == 0) return;
  check::fail(kOp, name, fmt::format("{}", value), "a multiple of 16 from 16 to 256");
}

void check_dtype(std::string_view name, DType dtype, std::initializer_list<DType> allowed) {
  const TensorView scalar{.dtype = dtype};
  check::dtype({kOp, name, scalar}, allowed);
}

void check_shape(const AttentionShape& shape) {
  check_at_least("num_qo_heads", shape.num_qo_heads, 1);
  check_at_least("num_kv_heads", shape.num_kv_heads, 1);
  if (shape.num_qo_heads % shape.num_kv_heads != 0) {
    check::fail(kOp, "num_qo_heads", fmt::format("{}", shape.num_qo_heads),
                fmt::format("a multiple of num_kv_heads, {}", shape.num_kv_heads));
  }
  check_head_dim("head_dim_qk", shape.head_dim_qk);
  check_head_dim("head_dim_vo", shape.head_dim_vo);
  check_dtype("q_dtype", shape.q_dtype, {DType::f32, DType::f16, DType::bf16, DType::f8e4m3});
  check_dtype("kv_dtype", shape.kv_dtype,
              {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2});
  if (shape.q_dtype == DType::f8e4m3) check_dtype("kv_dtype", shape.kv_dtype, {DType::f8e4m3});
  check_dtype("o_dtype", shape.o_dtype, {DType::f32, DType::f16, DType::bf16});
}

void check_options(const AttentionPlanOptions& options) {
  check_at_least("window_left", options.window_left, -1);
  check_at_least("fixed_split_size", options.fixed_split_size, 0);
  check_at_least("max_copy_bytes", options.max_copy_bytes, 0);
}

int group_size(const AttentionShape& shape) { return shape.num_qo_heads / shape.num_kv_heads; }

void check_call(Device device, const AttentionShape& shape, const AttentionPlanOptions& options) {
  check_shape(shape);
  check_options(options);
  if (options.variant) check_variant(*options.variant, device);
}

void check_cascade_plan(const AttentionPlanOptions& options, bool reserved) {
  const auto refuse = [](bool given, std::string_view name, std::string_view got,
                         std::string_view expected) {
    if (!given) return;
    check::fail("attention.plan_cascade", name, std::string(got), std::string(expected),
                ErrorCode::not_implemented);
  };
  refuse(reserved, "reservation", "one", "none: it has no room for levels");
  refuse(options.batch_invariant, "batch_invariant", "true",
         "false: which tokens are shared depends on the batch");
  refuse(options.window_left >= 0, "window_left", fmt::format("{}", options.window_left),
         "-1: the rows of a group differ in their distance to its tokens");
  refuse(options.variant.has_value(), "variant", "one",
         "none: the rows of a group differ in their distance to its tokens");
}

void begin(const PlanningContext& context, const AttentionShape& shape,
           const AttentionPlanOptions& options, PlannedAttention& planned) {
  planned.shape = shape;
  planned.options = options;
  planned.checked = options.checked || env::flag("QUIRE_CHECKED");
  planned.reserved = context.reserved.has_value();
  planned.on_device = false;
  planned.captured = false;
  planned.size = {};  // unknown where the device plans; then nothing is two kernels'
  planned.lengths.first_requests.clear();
  planned.copy_indptr.clear();
}

// Kernel and extent of the reservation.
void adopt_reservation(const ReservedAttention& reserved, PlannedAttention& planned) {
  check_reserved_kind(planned.shape, planned.options, reserved);
  planned.config = reserved.config;
  planned.tile = reserved.tile;
  planned.extent = reserved.extent;
  planned.max_total_q = reserved.limits.max_total_q;
}

// No decode kernel is offered to a cascade, but one can be forced.
void check_cascade_tile(const PlannedAttention& planned) {
  if (planned.lengths.num_levels() == 1 || !planned.tile.merges_itself) return;
  check::fail("attention.plan_cascade", "QUIRE_FORCE_KERNEL", "decode",
              "another kernel: it joins the parts of a tile, not those of levels",
              ErrorCode::not_implemented);
}

// Kernel, work list and sizes of a plan of its own.
void adopt_choice(PlanningContext& context, const AttentionTargetChoice& choice,
                  PlannedAttention& planned) {
  planned.config = choice.config;
  planned.few = choice.few;
  planned.tile = choice.tile;
  check_cascade_tile(planned);
  planned.size = context.planner.prepare(planned.problem(), planned.tile);
  planned.extent = {.num_items = planned.size.num_items,
                    .num_merges = planned.size.num_merges,
                    .num_partial_rows = planned.size.num_partial_rows,
                    .num_kv_entries = planned.lengths.kv_entries(),
                    .batch_size = planned.lengths.batch_size()};
}

bool may_copy(const PlannedAttention& planned) {
  return planned.options.max_copy_bytes > 0 && !planned.options.batch_invariant &&
         planned.lengths.num_levels() == 1;
}

// The same, of prompts that read a copy of K and V; false where there is no room for it, or where
// groups of many heads are gathered all the same.
bool adopt_copying_choice(PlanningContext& context, const AttentionTargetChoice& choice,
                          PlannedAttention& planned) {
  if (!choice.config.boxes) return false;
  adopt_choice(context, choice, planned);
  const plan::AttentionProblem problem = planned.problem();
  const std::int64_t most_few = planned.size.num_few_workers > 0 ? planned.tile.few.tile_q : 0;
  planned.extent.num_copied_tokens = plan::num_copied_tokens(problem, most_few);
  const AttentionWorkspace all = workspace_of(planned.extent, planned.shape);
  if (planned.extent.num_copied_tokens > std::numeric_limits<std::int32_t>::max() ||
      all.bytes - all.copied_k > static_cast<std::size_t>(planned.options.max_copy_bytes) ||
      (context.workspace_bytes && all.bytes > *context.workspace_bytes)) {
    return false;
  }
  plan::place_copied_tokens(problem, most_few, planned.copy_indptr);
  return true;
}

// QUIRE_FORCE_COPY=1, of tests: wherever attention_sm90 can read a copy. Prompts beside single
// tokens that are most of the work have no time to gain.
bool copying_pays(const PlannedAttention& planned, const AttentionTargetChoice& choice) {
  constexpr double kMostFewShare = 0.54;
  if (env::flag("QUIRE_FORCE_COPY")) {
    return choice.config.kernel == kernels::AttentionKernel::sm90;
  }
  if (plan::few_share(planned.problem(), choice.tile) > kMostFewShare) return false;
  return plan::copying_pays(planned.problem(), choice.tile.few.tile_q, choice.copy_cost);
}

void plan_freely(PlanningContext& context, PlannedAttention& planned) {
  const int group = group_size(planned.shape);
  PackedRows rows = packed_rows(planned.lengths, group, planned.shape.num_kv_heads);
  if (plan::mixing_pays(planned.problem())) {
    rows.mean_long = mean_long_rows(planned.lengths, group);
  }
  const auto choose = [&](bool copies_kv) {
    return context.targets.choose(context.device, planned.shape, planned.options, rows, copies_kv);
  };
  const AttentionTargetChoice choice = choose(false);
  planned.max_total_q = planned.lengths.total_q();
  planned.num_indices = planned.lengths.kv_entries();
  if (may_copy(planned) && copying_pays(planned, choice) &&
      adopt_copying_choice(context, choose(true), planned)) {
    return;
  }
  adopt_choice(context, choice, planned);
}

// planned.lengths are read.
void finish(PlanningContext& context, PlannedAttention& planned) {
  if (!context.reserved) return plan_freely(context, planned);
  adopt_reservation(*context.reserved, planned);
  // The planner is not asked about more than there is room for.
  check_fits_reservation(planned.lengths, {}, *context.reserved);
  planned.size = context.planner.prepare(planned.problem(), planned.tile);
  check_fits_reservation(planned.lengths, planned.size, *context.reserved);
  planned.num_indices = planned.extent.num_kv_entries;
}

}  // namespace

plan::AttentionProblem PlannedAttention::problem() const {
  return {.qo_lens = lengths.qo_lens,
          .kv_lens = lengths.kv_lens,
          .group_size = group_size(shape),
          .num_kv_heads = shape.num_kv_heads,
          .causal = options.causal,
          .window_left = options.window_left,
          .fixed_split_size = split_size(options),
          .disable_split_kv = options.disable_split_kv,
          .first_requests = lengths.first_requests};
}

AttentionWorkspace workspace_of(const AttentionExtent& extent, const AttentionShape& shape) {
  constexpr std::size_t kAlignment = 256;  // of a copy
  const std::size_t partial_bytes =
      static_cast<std::size_t>(extent.num_partial_rows) * (shape.head_dim_vo + 1) * sizeof(float);
  if (extent.num_copied_tokens == 0) return {.bytes = partial_bytes};
  // Copies have the type of q, or its 8 bits.
  const auto copy_bytes = [&](int head_dim) {
    return static_cast<std::size_t>(extent.num_copied_tokens) * shape.num_kv_heads * head_dim *
           size_bytes(shape.q_dtype);
  };
  const auto aligned = [](std::size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  AttentionWorkspace workspace{.copied_k = aligned(partial_bytes)};
  workspace.copied_v = workspace.copied_k + aligned(copy_bytes(shape.head_dim_qk));
  workspace.bytes = workspace.copied_v + copy_bytes(shape.head_dim_vo);
  return workspace;
}

void plan_paged(PlanningContext& context, const AttentionShape& shape, const TensorView& qo_indptr,
                const PageTable& table, const AttentionPlanOptions& options,
                PlannedAttention& planned) {
  check_call(context.device, shape, options);
  check_at_least("page_size", shape.page_size, 1);
  begin(context, shape, options, planned);
  read_paged_lengths(qo_indptr, table, shape.page_size, context.device, planned.lengths);
  finish(context, planned);
}

void plan_ragged(PlanningContext& context, const AttentionShape& shape, const TensorView& qo_indptr,
                 const TensorView& kv_indptr, const AttentionPlanOptions& options,
                 PlannedAttention& planned) {
  check_call(context.device, shape, options);
  if (shape.page_size != 0) {
    check::fail(kOp, "page_size", fmt::format("{}", shape.page_size), "0 for ragged KV");
  }
  begin(context, shape, options, planned);
  read_ragged_lengths(qo_indptr, kv_indptr, planned.lengths);
  finish(context, planned);
}

void plan_cascade(PlanningContext& context, const AttentionShape& shape,
                  std::span<const CascadeLevel> levels, const AttentionPlanOptions& options,
                  PlannedAttention& planned) {
  check_call(context.device, shape, options);
  check_at_least("page_size", shape.page_size, 1);
  check_cascade_plan(options, context.reserved.has_value());
  begin(context, shape, options, planned);
  read_cascade_lengths(levels, shape.page_size, context.device, planned.lengths);
  finish(context, planned);
}

ReservedAttention make_reservation(PlanningContext& context, const AttentionShape& shape,
                                   const AttentionReservation& limits,
                                   const AttentionPlanOptions& options) {
  check_call(context.device, shape, options);
  check_at_least("page_size", shape.page_size, 0);
  check_reservation(limits);
  ReservedAttention reserved{.shape = shape, .limits = limits, .options = options};
  std::int64_t& longest = reserved.limits.max_qo_len;
  longest = longest == 0 ? limits.max_total_q : std::min(longest, limits.max_total_q);
  const std::int64_t requests = std::min<std::int64_t>(limits.max_batch_size, limits.max_total_q);
  const double group = group_size(shape);
  const PackedRows rows{
      .mean = group * static_cast<double>(limits.max_total_q) / static_cast<double>(requests),
      .max = group * static_cast<double>(longest),
      .tiles = static_cast<double>(shape.num_kv_heads * requests)};
  const AttentionTargetChoice choice = context.targets.choose(context.device, shape, options, rows);
  reserved.config = choice.config;
  reserved.tile = choice.tile;
  reserved.extent = reserved_extent(reserved);
  return reserved;
}

void plan_for_device(const PlanningContext& context, const AttentionShape& shape,
                     const DeviceTableSize& table, int qo_len, const AttentionPlanOptions& options,
                     PlannedAttention& planned) {
  check_call(context.device, shape, options);
  begin(context, shape, options, planned);
  adopt_reservation(*context.reserved, planned);
  planned.on_device = true;
  if (qo_len > planned.tile.tile_q / group_size(shape)) {
    check::fail("attention.plan_on_device", "qo_len", fmt::format("{}", qo_len),
                fmt::format("at most {} with groups of {} heads: what is more than one tile of {} "
                            "packed rows is planned on the host",
                            planned.tile.tile_q / group_size(shape), group_size(shape),
                            planned.tile.tile_q),
                ErrorCode::not_implemented);
  }
  check_batch_fits(table.batch_size, *context.reserved);
  const auto size = static_cast<std::size_t>(table.batch_size);
  planned.lengths.qo_lens.assign(size, qo_len);
  planned.lengths.kv_lens.assign(size, 0);
  planned.lengths.qo_indptr.assign(size + 1, 0);
  for (std::size_t r = 0; r < size; ++r) {
    planned.lengths.qo_indptr[r + 1] = planned.lengths.qo_indptr[r] + qo_len;
  }
  planned.lengths.kv_indptr.assign(size + 1, 0);
  planned.lengths.kv_indptr.back() = static_cast<std::int32_t>(table.num_indices);
  planned.num_indices = table.num_indices;
  planned.lengths.largest_page = -1;
  planned.lengths.largest_page_at = -1;
  check_fits_reservation(planned.lengths, {}, *context.reserved);
}

}  // namespace quire
