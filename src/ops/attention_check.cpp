#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "ops/attention_arguments.h"
#include "ops/attention_variant.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.run";

std::string_view layout_name(KvLayout layout) { return layout == KvLayout::nhd ? "nhd" : "hnd"; }

// One dimension of K or V; size -1: any.
struct Dim {
  std::string_view name;
  std::int64_t size;
};

std::vector<Dim> kv_dims(const PlannedAttention& planned, KvLayout layout, int head_dim) {
  const bool paged = planned.shape.page_size > 0;
  Dim tokens = paged ? Dim{"page_size", planned.shape.page_size}
                     : Dim{"total_kv", planned.lengths.kv_entries()};
  Dim heads{"num_kv_heads", planned.shape.num_kv_heads};
  if (layout == KvLayout::hnd) std::swap(tokens, heads);
  if (paged) return {{"num_pages", -1}, tokens, heads, {"head_dim", head_dim}};
  return {tokens, heads, {"head_dim", head_dim}};
}

bool fits(const TensorView& tensor, const std::vector<Dim>& dims) {
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i].size >= 0 && tensor.shape[i] != dims[i].size) return false;
  }
  return true;
}

std::string dims_text(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (const Dim& dim : dims) {
    if (text.size() > 1) text += ", ";
    text += dim.size < 0 ? std::string(dim.name) : fmt::format("{} {}", dim.name, dim.size);
  }
  return text + "]";
}

std::string shape_text(const TensorView& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", tensor.shape[static_cast<std::size_t>(i)]);
  }
  return text + "]";
}

void check_kv(const check::Arg& arg, const PlannedAttention& planned, int head_dim) {
  const KvLayout layout = planned.shape.layout;
  const std::vector<Dim> dims = kv_dims(planned, layout, head_dim);
  check::rank(arg, static_cast<int>(dims.size()));
  if (!fits(arg.tensor, dims)) {
    const KvLayout other = layout == KvLayout::nhd ? KvLayout::hnd : KvLayout::nhd;
    std::string expected = fmt::format("{} for layout {}", dims_text(dims), layout_name(layout));
    if (fits(arg.tensor, kv_dims(planned, other, head_dim))) {
      expected += fmt::format("; the shape fits layout {}", layout_name(other));
    }
    check::fail(kOp, arg.name, "shape " + shape_text(arg.tensor), expected);
  }
  check::dtype(arg, {planned.shape.kv_dtype});
  check::last_dim_contiguous(arg);
  check::memory(arg);
}

// q has the plan's rows; where more are reserved, up to those.
void check_num_rows(const check::Arg& q, const PlannedAttention& planned) {
  check::rank(q, 3);
  const std::int64_t rows = q.tensor.shape[0], least = planned.lengths.total_q();
  if (rows >= least && rows <= planned.max_total_q) return;
  if (!planned.reserved) check::dim(q, 0, least, "total_q, the last entry of qo_indptr");
  check::fail(kOp, "q", fmt::format("{} rows", rows),
              fmt::format("{} (total_q) to {} (max_total_q)", least, planned.max_total_q));
}

void check_rows(const check::Arg& arg, std::int64_t num_rows, const PlannedAttention& planned,
                int head_dim, DType dtype) {
  check::rank(arg, 3);
  check::dim(arg, 0, num_rows,
             planned.reserved ? "rows of q" : "total_q, the last entry of qo_indptr");
  check::dim(arg, 1, planned.shape.num_qo_heads, "num_qo_heads");
  check::dim(arg, 2, head_dim, "head_dim");
  check::dtype(arg, {dtype});
  check::last_dim_contiguous(arg);
}

void check_pages(const AttentionArguments& args, const PlannedAttention& planned) {
  const std::int64_t num_pages = args.k.shape[0];
  check::dim({kOp, "v", args.v}, 0, num_pages, "num_pages of k");
  if (num_pages > std::numeric_limits<std::int32_t>::max()) {
    check::fail(kOp, "k", fmt::format("{} pages", num_pages), "at most 2147483647");
  }
  const AttentionLengths& lengths = planned.lengths;
  if (lengths.largest_page < num_pages) return;
  const std::int64_t at = lengths.largest_page_at;
  check::fail(kOp, "kv_indices",
              fmt::format("{} at [{}] ({})", lengths.largest_page, at, lengths.owner_of_entry(at)),
              fmt::format("page ids below {}, the num_pages of k", num_pages));
}

void check_scalars(const AttentionOptions& options) {
  const auto at_least_0 = [](std::string_view name, float value) {
    if (std::isfinite(value) && value >= 0) return;
    check::fail(kOp, name, fmt::format("{}", value), "a finite number of 0 or more");
  };
  at_least_0("sm_scale", options.sm_scale);
  at_least_0("logits_soft_cap", options.logits_soft_cap);
  check::finite_positive(kOp, "q_scale", options.q_scale);
  check::finite_positive(kOp, "k_scale", options.k_scale);
  check::finite_positive(kOp, "v_scale", options.v_scale);
  if (options.window_left < -1) {
    check::fail(kOp, "window_left", fmt::format("{}", options.window_left), "-1 or more");
  }
}

// Each request's bits must lie inside custom_mask. mask_indptr on a device is bounded by the
// kernel.
void check_mask_bytes(const AttentionOptions& options, const AttentionLengths& lengths) {
  const std::int64_t bytes = options.custom_mask->shape[0];
  const bool readable = options.mask_indptr->device.is_cpu();
  const auto* indptr = static_cast<const std::int32_t*>(options.mask_indptr->data);
  std::int64_t total = 0;
  for (std::size_t r = 0; r < lengths.qo_lens.size(); ++r) {
    const std::int64_t bits = std::int64_t{lengths.qo_lens[r]} * lengths.kv_lens[r];
    const std::int64_t needed = (bits + 7) / 8;
    total += needed;
    if (!readable || needed == 0) continue;
    if (indptr[r] < 0 || indptr[r] > bytes - needed) {
      check::fail(kOp, "mask_indptr", fmt::format("{} at [{}]", indptr[r], r),
                  fmt::format("0 to {}: request {} has {} bytes of a custom_mask of {}",
                              bytes - needed, r, needed, bytes));
    }
  }
  if (!readable && bytes < total) {
    check::fail(kOp, "custom_mask", fmt::format("{} bytes", bytes),
                fmt::format("at least {}, a bit for each query row and KV token", total));
  }
}

// What depends on how far a row is from a token: rows of a group have not the same distance to
// its tokens.
void check_cascade(const AttentionOptions& options) {
  const auto refuse = [](std::string_view name, const std::string& got) {
    check::fail(kOp, name, got, "none: the rows of a group differ in their distance to its tokens",
                ErrorCode::not_implemented);
  };
  if (options.window_left >= 0) refuse("window_left", fmt::format("{}", options.window_left));
  if (options.alibi_slopes) refuse("alibi_slopes", "a tensor with a cascade");
  if (options.custom_mask) {
    check::fail(kOp, "custom_mask", "a tensor with a cascade", "none: it has bits for one level",
                ErrorCode::not_implemented);
  }
}

void check_mask(const AttentionOptions& options, const PlannedAttention& planned,
                const check::Arg& like) {
  if (!options.custom_mask && !options.mask_indptr) return;
  if (!options.mask_indptr) check::fail(kOp, "mask_indptr", "none", "one with custom_mask");
  if (!options.custom_mask) check::fail(kOp, "custom_mask", "none", "one with mask_indptr");
  const check::Arg mask{kOp, "custom_mask", *options.custom_mask};
  const check::Arg indptr{kOp, "mask_indptr", *options.mask_indptr};
  check::rank(mask, 1);
  check::dtype(mask, {DType::u8});
  check::rank(indptr, 1);
  check::dtype(indptr, {DType::i32});
  check::dim(indptr, 0, planned.extent.batch_size + 1,
             planned.reserved ? "max_batch_size + 1" : "batch + 1");
  for (const check::Arg& arg : {mask, indptr}) {
    check::device(arg, like);
    check::contiguous(arg);
    check::memory(arg);
  }
  // What the device has planned only the kernel knows; it stays inside the mask.
  if (!planned.on_device) check_mask_bytes(options, planned.lengths);
}

void check_floats(const check::Arg& arg, const check::Arg& like) {
  check::dtype(arg, {DType::f32});
  check::device(arg, like);
  check::contiguous(arg);
}

// A number of heads and what it is called.
struct Heads {
  int count;
  std::string_view name;
};

void check_per_head(std::string_view name, const std::optional<TensorView>& values, Heads heads,
                    const check::Arg& like) {
  if (!values) return;
  const check::Arg arg{kOp, name, *values};
  check::rank(arg, 1);
  check::dim(arg, 0, heads.count, heads.name);
  check_floats(arg, like);
  check::memory(arg);
}

// Only kernels for fp8 read scales a head.
void check_only_for_fp8(std::string_view name, const std::optional<TensorView>& values,
                        std::string_view dtype_name, DType dtype) {
  if (!values || dtype == DType::f8e4m3 || dtype == DType::f8e5m2) return;
  check::fail(
      kOp, name, "a tensor",
      fmt::format("none: {} is {}, scales a head are for fp8", dtype_name, quire::name(dtype)));
}

void check_scales(const AttentionOptions& options, const AttentionShape& shape,
                  const check::Arg& like) {
  const Heads qo{shape.num_qo_heads, "num_qo_heads"}, kv{shape.num_kv_heads, "num_kv_heads"};
  check_only_for_fp8("q_scales", options.q_scales, "q_dtype", shape.q_dtype);
  check_only_for_fp8("k_scales", options.k_scales, "kv_dtype", shape.kv_dtype);
  check_only_for_fp8("v_scales", options.v_scales, "kv_dtype", shape.kv_dtype);
  check_per_head("q_scales", options.q_scales, qo, like);
  check_per_head("k_scales", options.k_scales, kv, like);
  check_per_head("v_scales", options.v_scales, kv, like);
}

}  // namespace

void check_arguments(const AttentionArguments& args, const PlannedAttention& planned,
                     Device device) {
  const AttentionShape& shape = planned.shape;
  const check::Arg q{kOp, "q", args.q}, k{kOp, "k", args.k}, v{kOp, "v", args.v},
      out{kOp, "out", args.out};
  if (args.q.device != device) {
    check::fail(kOp, "q", to_string(args.q.device),
                fmt::format("{}, the device of the plan", to_string(device)));
  }
  for (const check::Arg& arg : {k, v, out}) check::device(arg, q);
  check_num_rows(q, planned);
  const std::int64_t num_rows = args.q.shape[0];
  check_rows(q, num_rows, planned, shape.head_dim_qk, shape.q_dtype);
  check::memory(q);
  if (args.layout != shape.layout) {
    check::fail(kOp, "layout", std::string(layout_name(args.layout)),
                fmt::format("{}, the layout of the plan", layout_name(shape.layout)));
  }
  check_kv(k, planned, shape.head_dim_qk);
  check_kv(v, planned, shape.head_dim_vo);
  if (shape.page_size > 0) check_pages(args, planned);
  check_rows(out, num_rows, planned, shape.head_dim_vo, shape.o_dtype);
  check::memory(out, /*is_output=*/true);
  if (args.lse) {
    const check::Arg lse{kOp, "lse", *args.lse};
    check::rank(lse, 2);
    check::dim(lse, 0, num_rows, "rows of q");
    check::dim(lse, 1, shape.num_qo_heads, "num_qo_heads");
    check_floats(lse, q);
    check::memory(lse, /*is_output=*/true);
  }
  check_scalars(args.options);
  if (planned.lengths.num_levels() > 1) check_cascade(args.options);
  check_mask(args.options, planned, q);
  const Heads qo_heads{shape.num_qo_heads, "num_qo_heads"};
  check_per_head("sinks", args.options.sinks, qo_heads, q);
  check_per_head("alibi_slopes", args.options.alibi_slopes, qo_heads, q);
  check_scales(args.options, shape, q);
  check_variant_values(planned.custom(), args.options, args.lse.has_value(), q);
}

}  // namespace quire
