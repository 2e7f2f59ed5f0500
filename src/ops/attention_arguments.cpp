#include "ops/attention_arguments.h"

#include <cmath>

#include "core/check.h"
#include "ops/attention_variant.h"

namespace quire {
namespace {

struct KvStrides {
  std::int64_t page, token, head;
};

KvStrides kv_strides(const TensorView& tensor, KvLayout layout, bool paged) {
  const std::size_t first = paged ? 1 : 0;
  const std::int64_t outer = tensor.strides[first], inner = tensor.strides[first + 1];
  const std::int64_t page = paged ? tensor.strides[0] : 0;
  return layout == KvLayout::nhd ? KvStrides{page, outer, inner} : KvStrides{page, inner, outer};
}

template <class T>
const T* data_or_null(const std::optional<TensorView>& tensor) {
  return tensor ? static_cast<const T*>(tensor->data) : nullptr;
}

}  // namespace

kernels::AttentionParams fill_params(const AttentionArguments& args,
                                     const PlannedAttention& planned) {
  const AttentionShape& shape = planned.shape;
  const AttentionOptions& options = args.options;
  const bool paged = shape.page_size > 0;
  const KvStrides k = kv_strides(args.k, args.layout, paged);
  const KvStrides v = kv_strides(args.v, args.layout, paged);
  const float sm_scale = options.sm_scale > 0
                             ? options.sm_scale
                             : 1.f / std::sqrt(static_cast<float>(shape.head_dim_qk));
  return {
      .q = args.q.data,
      .k = args.k.data,
      .v = args.v.data,
      .out = args.out.data,
      .lse = args.lse ? static_cast<float*>(args.lse->data) : nullptr,
      .q_token_stride = args.q.strides[0],
      .q_head_stride = args.q.strides[1],
      .k_page_stride = k.page,
      .k_token_stride = k.token,
      .k_head_stride = k.head,
      .v_page_stride = v.page,
      .v_token_stride = v.token,
      .v_head_stride = v.head,
      .out_token_stride = args.out.strides[0],
      .out_head_stride = args.out.strides[1],
      .custom_mask = data_or_null<kernels::u8>(options.custom_mask),
      .mask_indptr = data_or_null<kernels::i32>(options.mask_indptr),
      .sinks = data_or_null<float>(options.sinks),
      .alibi_slopes = data_or_null<float>(options.alibi_slopes),
      .q_scales = data_or_null<float>(options.q_scales),
      .k_scales = data_or_null<float>(options.k_scales),
      .v_scales = data_or_null<float>(options.v_scales),
      .sm_scale = sm_scale * options.q_scale * options.k_scale,
      .v_scale = options.v_scale,
      .logits_soft_cap = options.logits_soft_cap,
      .causal = options.causal ? 1 : 0,
      .window_left = options.window_left,
      .lse_base_e = options.lse_base == LseBase::e ? 1 : 0,
      .batch_size = static_cast<kernels::i32>(planned.extent.batch_size),
      .num_qo_heads = shape.num_qo_heads,
      .num_kv_heads = shape.num_kv_heads,
      .group_size = shape.num_qo_heads / shape.num_kv_heads,
      .page_size = shape.page_size,
      .num_pages = paged ? static_cast<kernels::i32>(args.k.shape[0]) : 0,
      .total_q = static_cast<kernels::i32>(args.q.shape[0]),
      .num_workers = plan::plan_workers(planned.tile, planned.size),
      .total_kv = paged ? 0 : args.k.shape[args.layout == KvLayout::nhd ? 0 : 1],
      .num_items = static_cast<kernels::i32>(planned.extent.num_items),
      .num_merges = static_cast<kernels::i32>(planned.extent.num_merges),
      .num_indices = paged ? static_cast<kernels::i32>(planned.num_indices) : 0,
      .num_partial_rows = static_cast<kernels::i32>(planned.extent.num_partial_rows),
      .mask_bytes = options.custom_mask ? options.custom_mask->shape[0] : 0,
      .num_levels = planned.lengths.num_levels(),
      .num_groups = planned.lengths.num_groups(),
      .tile_rows = planned.tile.tile_q,
      .variant =
          planned.custom() ? variant_values(*planned.custom(), options) : kernels::VariantValues{},
  };
}

bool rows_aligned(const AttentionArguments& args) {
  constexpr int kBytes = 16;
  return check::rows_aligned(args.q, kBytes) && check::rows_aligned(args.k, kBytes) &&
         check::rows_aligned(args.v, kBytes) && check::rows_aligned(args.out, kBytes);
}

}  // namespace quire
