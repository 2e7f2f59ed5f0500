#include "quire/attention.h"

#include <tvm/ffi/object.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "conversion.h"

namespace quire::python {

namespace {

class AttentionObject : public ffi::Object {
 public:
  explicit AttentionObject(Device on) : device(on), engine(on) {}

  Device device;
  BatchAttention engine;

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("quire.BatchAttention", AttentionObject, ffi::Object);
};

class AttentionVariantObject : public ffi::Object {
 public:
  AttentionVariant variant;

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("quire.AttentionVariant", AttentionVariantObject, ffi::Object);
};

using Tensor = TensorView;
using Names = std::vector<std::string>;
using OptionalTensor = std::optional<TensorView>;

using Variant = std::optional<AttentionVariantObject*>;

KvLayout parse_layout(bool hnd) { return hnd ? KvLayout::hnd : KvLayout::nhd; }

// What plans of one kind have in common, as Python hands it over.
class AttentionKindObject : public ffi::Object {
 public:
  AttentionShape shape;
  AttentionPlanOptions options;

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("quire.AttentionKind", AttentionKindObject, ffi::Object);
};

ffi::ObjectPtr<AttentionKindObject> make_kind(int num_qo_heads, int num_kv_heads, int head_dim_qk,
                                              int head_dim_vo, int page_size, bool hnd,
                                              std::string q_dtype, std::string kv_dtype,
                                              std::string o_dtype, bool causal, int window_left,
                                              int fixed_split_size, bool disable_split_kv,
                                              bool batch_invariant, bool checked,
                                              std::int64_t max_copy_bytes, Variant variant) {
  constexpr const char* op = "attention.plan";
  auto object = ffi::make_object<AttentionKindObject>();
  object->shape = {.num_qo_heads = num_qo_heads,
                   .num_kv_heads = num_kv_heads,
                   .head_dim_qk = head_dim_qk,
                   .head_dim_vo = head_dim_vo,
                   .page_size = page_size,
                   .layout = parse_layout(hnd),
                   .q_dtype = parse_dtype(op, "q_dtype", q_dtype),
                   .kv_dtype = parse_dtype(op, "kv_dtype", kv_dtype),
                   .o_dtype = parse_dtype(op, "o_dtype", o_dtype)};
  object->options = {.causal = causal,
                     .window_left = window_left,
                     .fixed_split_size = fixed_split_size,
                     .disable_split_kv = disable_split_kv,
                     .checked = checked,
                     .batch_invariant = batch_invariant,
                     .max_copy_bytes = max_copy_bytes};
  if (variant) object->options.variant = (*variant)->variant;
  return object;
}

std::vector<AttentionVariant::Argument> variant_arguments(std::string_view argument,
                                                          const Names& names, const Names& dtypes) {
  std::vector<AttentionVariant::Argument> arguments;
  for (std::size_t i = 0; i < names.size(); ++i) {
    arguments.push_back({names[i], parse_dtype("attention.plan", argument, dtypes[i])});
  }
  return arguments;
}

ffi::ObjectPtr<AttentionVariantObject> make_variant(std::string name, std::string source,
                                                    Names tensor_names, Names tensor_dtypes,
                                                    Names scalar_names, Names scalar_dtypes,
                                                    bool softmax) {
  auto object = ffi::make_object<AttentionVariantObject>();
  object->variant = {.name = std::move(name),
                     .source = std::move(source),
                     .tensors = variant_arguments("variant.tensors", tensor_names, tensor_dtypes),
                     .scalars = variant_arguments("variant.scalars", scalar_names, scalar_dtypes),
                     .softmax = softmax};
  return object;
}

ffi::ObjectPtr<AttentionObject> create(const std::string& device) {
  return ffi::make_object<AttentionObject>(parse_device(device));
}

void set_workspace(AttentionObject* attention, OptionalTensor workspace) {
  attention->engine.set_workspace(workspace);
}

std::int64_t workspace_bytes(AttentionObject* attention) {
  return static_cast<std::int64_t>(attention->engine.workspace_bytes());
}

AttentionReservation reservation_of(std::int64_t max_batch_size, std::int64_t max_total_q,
                                    std::int64_t max_qo_len, std::int64_t max_kv_entries) {
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  return {.max_batch_size = static_cast<int>(std::clamp<std::int64_t>(max_batch_size, 0, kMost)),
          .max_total_q = max_total_q,
          .max_qo_len = max_qo_len,
          .max_kv_entries = max_kv_entries};
}

// With `dry_run` nothing is reserved; either way the bytes of workspace come back.
std::int64_t reserve(AttentionObject* attention, bool dry_run, AttentionKindObject* kind,
                     std::int64_t max_batch_size, std::int64_t max_total_q, std::int64_t max_qo_len,
                     std::int64_t max_kv_entries) {
  const AttentionReservation reservation =
      reservation_of(max_batch_size, max_total_q, max_qo_len, max_kv_entries);
  if (dry_run) {
    return static_cast<std::int64_t>(
        attention_workspace_bytes(attention->device, kind->shape, reservation, kind->options));
  }
  attention->engine.reserve(kind->shape, reservation, kind->options);
  return workspace_bytes(attention);
}

// indices and last_page_len are absent for ragged KV. With `dry_run` nothing is planned; either way
// the bytes of workspace come back.
std::int64_t plan(AttentionObject* attention, bool dry_run, AttentionKindObject* kind,
                  Tensor qo_indptr, Tensor kv_indptr, OptionalTensor indices,
                  OptionalTensor last_page_len, std::int64_t stream) {
  const AttentionShape& shape = kind->shape;
  const AttentionPlanOptions& options = kind->options;
  if (indices && last_page_len) {
    const PageTable table{kv_indptr, *indices, *last_page_len};
    if (dry_run) {
      return static_cast<std::int64_t>(
          attention_workspace_bytes(attention->device, shape, qo_indptr, table, options));
    }
    attention->engine.plan(shape, qo_indptr, table, options, to_stream(stream));
  } else {
    if (dry_run) {
      return static_cast<std::int64_t>(
          attention_workspace_bytes(attention->device, shape, qo_indptr, kv_indptr, options));
    }
    attention->engine.plan(shape, qo_indptr, kv_indptr, options, to_stream(stream));
  }
  return workspace_bytes(attention);
}

// arrays: qo_indptr, kv_indptr, kv_indices and kv_last_page_len of each level.
std::int64_t plan_cascade(AttentionObject* attention, bool dry_run, AttentionKindObject* kind,
                          std::vector<ffi::Tensor> arrays, std::int64_t stream) {
  std::vector<CascadeLevel> levels;
  for (std::size_t i = 0; i + 4 <= arrays.size(); i += 4) {
    const auto view = [&](std::size_t j) { return import_tensor(*arrays[i + j].GetDLTensorPtr()); };
    levels.push_back({view(0), {view(1), view(2), view(3)}});
  }
  if (dry_run) {
    return static_cast<std::int64_t>(
        attention_workspace_bytes(attention->device, kind->shape, levels, kind->options));
  }
  attention->engine.plan_cascade(kind->shape, levels, kind->options, to_stream(stream));
  return workspace_bytes(attention);
}

void plan_on_device(AttentionObject* attention, AttentionKindObject* kind, int qo_len,
                    Tensor seq_lens, OptionalTensor block_tables, OptionalTensor kv_indptr,
                    OptionalTensor kv_indices, std::int64_t stream) {
  attention->engine.plan_on_device(kind->shape, qo_len,
                                   {seq_lens, block_tables, kv_indptr, kv_indices}, kind->options,
                                   to_stream(stream));
}

void check_plan(AttentionObject* attention, std::int64_t stream) {
  attention->engine.check_plan(to_stream(stream));
}

void run(AttentionObject* attention, bool paged, bool hnd, Tensor q, Tensor k, Tensor v, Tensor out,
         OptionalTensor lse, bool causal, int window_left, double sm_scale, double logits_soft_cap,
         double q_scale, double k_scale, double v_scale, OptionalTensor q_scales,
         OptionalTensor k_scales, OptionalTensor v_scales, bool lse_base_2,
         OptionalTensor custom_mask, OptionalTensor mask_indptr, OptionalTensor sinks,
         OptionalTensor alibi_slopes, std::optional<std::vector<ffi::Tensor>> variant_tensors,
         std::optional<std::vector<double>> variant_scalars, std::int64_t stream) {
  AttentionOptions options{.causal = causal,
                           .window_left = window_left,
                           .sm_scale = static_cast<float>(sm_scale),
                           .logits_soft_cap = static_cast<float>(logits_soft_cap),
                           .q_scale = static_cast<float>(q_scale),
                           .k_scale = static_cast<float>(k_scale),
                           .v_scale = static_cast<float>(v_scale),
                           .q_scales = q_scales,
                           .k_scales = k_scales,
                           .v_scales = v_scales,
                           .lse_base = lse_base_2 ? LseBase::two : LseBase::e,
                           .custom_mask = custom_mask,
                           .mask_indptr = mask_indptr,
                           .sinks = sinks,
                           .alibi_slopes = alibi_slopes};
  if (variant_scalars) options.variant_scalars = std::move(*variant_scalars);
  if (variant_tensors) {
    for (const ffi::Tensor& tensor : *variant_tensors) {
      options.variant_tensors.push_back(import_tensor(*tensor.GetDLTensorPtr()));
    }
  }
  if (paged) {
    attention->engine.run(q, PagedKv{k, v, parse_layout(hnd)}, out, lse, options,
                          to_stream(stream));
  } else {
    attention->engine.run(q, k, v, out, lse, options, to_stream(stream));
  }
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_variant, translated(make_variant));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_create, translated(create));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_set_workspace, translated(set_workspace));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_workspace_bytes, translated(workspace_bytes));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_kind, translated(make_kind));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_reserve, translated(reserve));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_plan, translated(plan));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_plan_cascade, translated(plan_cascade));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_plan_on_device, translated(plan_on_device));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_check_plan, translated(check_plan));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(attention_run, translated(run));

}  // namespace quire::python
