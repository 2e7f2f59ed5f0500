#include "ops/attention_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "core/backend.h"
#include "core/check.h"
#include "core/env.h"
#include "cpu/attention.h"
#include "cuda/attention.h"
#include "ops/attention_variant.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan";
constexpr int kMaxHeadDim = 256;

void check_at_least(std::string_view name, int value, int least) {
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
  if (options.max_kv_entries < 0) {
    check::fail(kOp, "max_kv_entries", fmt::format("{}", options.max_kv_entries), "0 or more");
  }
  if (options.cuda_graph && options.checked) {
    check::fail(kOp, "checked", "true", "false with cuda_graph: the check waits for the device",
                ErrorCode::not_implemented);
  }
}

double mean_packed_rows(const AttentionLengths& lengths, int group_size) {
  std::int64_t with_rows = 0;
  for (const std::int32_t len : lengths.qo_lens) with_rows += len > 0;
  if (with_rows == 0) return 0;
  return static_cast<double>(lengths.total_q()) * group_size / static_cast<double>(with_rows);
}

std::int64_t max_packed_rows(const AttentionLengths& lengths, int group_size) {
  std::int64_t most = 0;
  for (const std::int32_t len : lengths.qo_lens) most = std::max<std::int64_t>(most, len);
  return most * group_size;
}

// The kernel's configuration and tile for the device and this much work.
void choose_tile(Device device, PlannedAttention& planned) {
  const AttentionShape& shape = planned.shape;
  const kernels::AttentionConfig wanted{
      .q_dtype = check::to_kernel(shape.q_dtype),
      .kv_dtype = check::to_kernel(shape.kv_dtype),
      .o_dtype = check::to_kernel(shape.o_dtype),
      .head_dim_qk = shape.head_dim_qk,
      .head_dim_vo = shape.head_dim_vo,
      .variant = planned.variant ? kernels::VariantKind::custom : kernels::VariantKind::none,
      .softmax = !planned.variant || planned.variant->softmax};
  dispatch(
      kOp, device,
      [&] {
        planned.config = cpu::attention_config(wanted);
        planned.tile = cpu::attention_tile(planned.config);
      },
      [&] {
        const int group_size = shape.num_qo_heads / shape.num_kv_heads;
        const cuda::AttentionTarget target = cuda::attention_target(
            device.index,
            {.shape = wanted,
             .mean_packed_rows = mean_packed_rows(planned.lengths, group_size),
             .max_packed_rows = max_packed_rows(planned.lengths, group_size),
             .group_size = group_size,
             .page_size = shape.page_size,
             .fixed_split_size = planned.fixed_split_size},
            planned.custom());
        planned.config = target.config;
        planned.tile = target.tile;
      });
}

PlannedAttention plan_lengths(Device device, const AttentionShape& shape, AttentionLengths lengths,
                              const AttentionPlanOptions& options,
                              const PlannedAttention* current) {
  PlannedAttention planned{
      .shape = shape, .lengths = std::move(lengths), .variant = options.variant};
  planned.fixed_split_size = options.disable_split_kv ? 0 : options.fixed_split_size;
  planned.cuda_graph = options.cuda_graph && device.is_cuda();
  planned.checked = !planned.cuda_graph && (options.checked || env::flag("QUIRE_CHECKED"));
  const PlannedAttention* first =
      planned.cuda_graph && current && current->cuda_graph ? current : nullptr;
  if (first) {
    planned.config = first->config;
    planned.tile = first->tile;
  } else {
    choose_tile(device, planned);
  }
  planned.work = plan::plan_attention({.qo_lens = planned.lengths.qo_lens,
                                       .kv_lens = planned.lengths.kv_lens,
                                       .group_size = shape.num_qo_heads / shape.num_kv_heads,
                                       .num_kv_heads = shape.num_kv_heads,
                                       .causal = options.causal,
                                       .window_left = options.window_left,
                                       .fixed_split_size = options.fixed_split_size,
                                       .disable_split_kv = options.disable_split_kv},
                                      planned.tile);
  if (first) check_fits_graph(planned, *first);
  planned.max_total_q = first ? first->max_total_q : planned.lengths.total_q();
  planned.extent = first                ? first->extent
                   : planned.cuda_graph ? graph_extent(planned, options)
                                        : exact_extent(planned);
  return planned;
}

}  // namespace

PlannedAttention plan_paged(Device device, const AttentionShape& shape, const TensorView& qo_indptr,
                            const PageTable& table, const AttentionPlanOptions& options,
                            const PlannedAttention* current) {
  check_shape(shape);
  check_options(options);
  if (options.variant) check_variant(*options.variant, device);
  check_at_least("page_size", shape.page_size, 1);
  return plan_lengths(device, shape, read_paged_lengths(qo_indptr, table, shape.page_size, device),
                      options, current);
}

PlannedAttention plan_ragged(Device device, const AttentionShape& shape,
                             const TensorView& qo_indptr, const TensorView& kv_indptr,
                             const AttentionPlanOptions& options, const PlannedAttention* current) {
  check_shape(shape);
  check_options(options);
  if (options.variant) check_variant(*options.variant, device);
  if (shape.page_size != 0) {
    check::fail(kOp, "page_size", fmt::format("{}", shape.page_size), "0 for ragged KV");
  }
  return plan_lengths(device, shape, read_ragged_lengths(qo_indptr, kv_indptr), options, current);
}

}  // namespace quire
