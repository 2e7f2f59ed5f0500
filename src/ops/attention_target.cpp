#include "ops/attention_target.h"

#include <algorithm>
#include <limits>

#include "core/backend.h"
#include "core/check.h"
#include "core/env.h"
#include "cpu/attention.h"
#include "cuda/attention.h"
#include "cuda/driver.h"
#include "ops/attention_options.h"

namespace quire {
namespace {

AttentionTargetChoice ask_cpu(const kernels::AttentionConfig& wanted) {
  const kernels::AttentionConfig config = cpu::attention_config(wanted);
  return {.config = config, .tile = cpu::attention_tile(config), .few = {}, .copy_cost = {}};
}

AttentionTargetChoice ask(Device device, const AttentionShape& shape,
                          const AttentionPlanOptions& options, PackedRows rows, bool copies_kv) {
  const AttentionVariant* variant = options.variant ? &*options.variant : nullptr;
  const kernels::AttentionConfig wanted{
      .q_dtype = check::to_kernel(shape.q_dtype),
      .kv_dtype = check::to_kernel(shape.kv_dtype),
      .o_dtype = check::to_kernel(shape.o_dtype),
      .head_dim_qk = shape.head_dim_qk,
      .head_dim_vo = shape.head_dim_vo,
      .variant = variant ? kernels::VariantKind::custom : kernels::VariantKind::none,
      .softmax = !variant || variant->softmax};
  AttentionTargetChoice choice;
  dispatch(
      "attention.plan", device, [&] { choice = ask_cpu(wanted); },
      [&] {
        const cuda::AttentionTarget target =
            cuda::attention_target(device.index,
                                   {.shape = wanted,
                                    .mean_packed_rows = rows.mean,
                                    .max_packed_rows = rows.max,
                                    .mean_long_rows = rows.mean_long,
                                    .copies_kv = copies_kv,
                                    .group_size = shape.num_qo_heads / shape.num_kv_heads,
                                    .page_size = shape.page_size,
                                    .fixed_split_size = split_size(options),
                                    .num_tiles = rows.tiles},
                                   variant);
        choice = {target.config, target.tile, target.few, target.copy_cost};
      });
  return choice;
}

}  // namespace

namespace {

PackedRows cascade_rows(const AttentionLengths& lengths, double group_size) {
  double tokens = 0, rows = 0;
  for (std::size_t r = 0; r < lengths.qo_lens.size(); ++r) {
    if (lengths.qo_lens[r] == 0) continue;
    tokens += lengths.kv_lens[r];
    rows += double{group_size} * lengths.qo_lens[r] * lengths.kv_lens[r];
  }
  return {.mean = tokens == 0 ? 0 : rows / tokens, .max = std::numeric_limits<double>::infinity()};
}

}  // namespace

PackedRows packed_rows(const AttentionLengths& lengths, int group_size, int num_kv_heads) {
  const double group = group_size;
  if (lengths.num_levels() > 1) return cascade_rows(lengths, group);
  std::int32_t with_rows = 0, longest = 0;
  for (const std::int32_t len : lengths.qo_lens) {
    with_rows += len > 0;
    longest = std::max(longest, len);
  }
  if (with_rows == 0) return {};
  return {.mean = group * static_cast<double>(lengths.total_q()) / with_rows,
          .max = group * longest,
          .tiles = static_cast<double>(num_kv_heads) * with_rows};
}

double mean_long_rows(const AttentionLengths& lengths, int group_size) {
  double tokens = 0, requests = 0;
  for (const std::int32_t len : lengths.qo_lens) {
    if (len <= 1) continue;
    tokens += len;
    ++requests;
  }
  return requests == 0 ? 0 : group_size * tokens / requests;
}

AttentionTargetChoice AttentionTargets::choose(Device device, const AttentionShape& shape,
                                               const AttentionPlanOptions& options, PackedRows rows,
                                               bool copies_kv) {
  if (options.batch_invariant) rows = {.mean = kBatchInvariantRows, .max = kBatchInvariantRows};
  if (device.is_cpu()) return ask(device, shape, options, rows, copies_kv);
  if constexpr (QUIRE_WITH_CUDA) {
    rows = {cuda::rows_class(rows.mean), cuda::rows_class(rows.max),
            rows.mean_long > 0 ? cuda::rows_class(rows.mean_long) : 0,
            cuda::tiles_class(rows.tiles, cuda::device_limits(device.index).num_sms)};
  }
  if (options.variant) return ask(device, shape, options, rows, copies_kv);
  const Key key{shape, rows, split_size(options), copies_kv,
                env::get("QUIRE_FORCE_KERNEL").value_or("")};
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.choice;
  }
  Entry& entry = entries_[oldest_];
  entry = {key, ask(device, shape, options, rows, copies_kv)};
  oldest_ = (oldest_ + 1) % entries_.size();
  return entry.choice;
}

}  // namespace quire
