#include "quire/append.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "core/scale_arguments.h"
#include "cpu/append.h"
#include "cuda/append.h"
#include "ops/append_rows.h"

namespace quire {
namespace {

using check::Arg;
using kernels::AppendParams;
using kernels::AppendSide;

struct AppendArgs {
  const char* op;
  Arg key, value, pool_k, pool_v;
  KvLayout layout;
  const KvScales& scales;

  int heads_dim() const { return layout == KvLayout::nhd ? 2 : 1; }
  int tokens_dim() const { return layout == KvLayout::nhd ? 1 : 2; }
  bool converts() const { return key.tensor.dtype != pool_k.tensor.dtype; }
};

void check_rows(const AppendArgs& a) {
  check::rank(a.key, 3);
  check::dtype(a.key, {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2,
                       DType::i32, DType::u8, DType::boolean});
  check::last_dim_contiguous(a.key);
  check::memory(a.key);
  check::rank(a.value, 3);
  check::dtype(a.value, {a.key.tensor.dtype});
  check::dim(a.value, 0, a.key.tensor.shape[0], fmt::format("rows of {}", a.key.name));
  check::dim(a.value, 1, a.key.tensor.shape[1], fmt::format("num_kv_heads of {}", a.key.name));
  check::last_dim_contiguous(a.value);
  check::device(a.value, a.key);
  check::memory(a.value);
}

void check_pool_dtype(const Arg& pool, const Arg& rows) {
  const DType dtype = rows.tensor.dtype;
  if (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16) {
    check::dtype(pool, {dtype, DType::f8e4m3, DType::f8e5m2});
  } else {
    check::dtype(pool, {dtype});
  }
}

void check_pool(const AppendArgs& a, const Arg& pool, const Arg& rows) {
  check::rank(pool, 4);
  check_pool_dtype(pool, rows);
  const std::int64_t num_heads = rows.tensor.shape[1];
  const bool other_fits = pool.tensor.shape[a.tokens_dim()] == num_heads;
  const std::string hint = !other_fits                 ? ""
                           : a.layout == KvLayout::nhd ? "; layout hnd would fit"
                                                       : "; layout nhd would fit";
  check::dim(pool, a.heads_dim(), num_heads, fmt::format("num_kv_heads of {}{}", rows.name, hint));
  check::dim(pool, 3, rows.tensor.shape[2], fmt::format("head_dim of {}", rows.name));
  check::last_dim_contiguous(pool);
  check::device(pool, a.key);
  check::memory(pool, true);
}

AppendSide make_side(const AppendArgs& a, const Arg& rows, const Arg& pool) {
  AppendSide side{};
  side.rows = rows.tensor.data;
  side.pool = pool.tensor.data;
  side.row_stride_bytes = rows::step_bytes(rows.tensor, 0);
  side.row_head_stride_bytes = rows::step_bytes(rows.tensor, 1);
  side.page_stride_bytes = rows::step_bytes(pool.tensor, 0);
  side.token_stride_bytes = rows::step_bytes(pool.tensor, a.tokens_dim());
  side.head_stride_bytes = rows::step_bytes(pool.tensor, a.heads_dim());
  const auto element = static_cast<std::int64_t>(size_bytes(rows.tensor.dtype));
  side.head_bytes = rows::count(rows, rows.tensor.shape[2] * element, "bytes a head");
  rows::count(rows, rows.tensor.shape[1] * side.head_bytes, "bytes a row");
  return side;
}

void set_scale(const AppendArgs& a, const char* name, const Fp8Scale& scale, AppendSide& side) {
  const check::HeadScales scales =
      check::head_scales(a.key, name, scale, a.key.tensor.shape[1], a.converts());
  side.scales = scales.data;
  side.scale_head_stride = scales.head_stride;
  side.scale_value = scales.value;
}

void append(const AppendArgs& a, const AppendRows& rows, Stream stream) {
  check_rows(a);
  check_pool(a, a.pool_k, a.key);
  check_pool(a, a.pool_v, a.value);
  check::dtype(a.pool_v, {a.pool_k.tensor.dtype});
  check::dim(a.pool_v, 0, a.pool_k.tensor.shape[0], fmt::format("num_pages of {}", a.pool_k.name));
  const std::int64_t page_size = a.pool_k.tensor.shape[a.tokens_dim()];
  check::dim(a.pool_v, a.tokens_dim(), page_size, fmt::format("page_size of {}", a.pool_k.name));

  AppendParams p{};
  p.k = make_side(a, a.key, a.pool_k);
  p.v = make_side(a, a.value, a.pool_v);
  set_scale(a, "scales.k", a.scales.k, p.k);
  set_scale(a, "scales.v", a.scales.v, p.v);
  p.to = check_append_rows(rows, a.key, {a.pool_k, a.pool_k.tensor.shape[0], page_size});
  p.num_kv_heads = rows::count(a.key, a.key.tensor.shape[1], "heads");
  if (p.to.nnz == 0 || p.num_kv_heads == 0 || p.k.head_bytes + p.v.head_bytes == 0) return;

  const Device device = a.key.tensor.device;
  check_device_slots(a.op, p.to, device, stream);
  const kernels::AppendConfig config{.dtype = check::to_kernel(a.key.tensor.dtype),
                                     .cache_dtype = check::to_kernel(a.pool_k.tensor.dtype)};
  dispatch(
      a.op, device, [&] { cpu::append_paged_kv(config, p); },
      [&] { cuda::append_paged_kv(config, p, device.index, stream); });
}

}  // namespace

void append_paged_kv(const TensorView& key, const TensorView& value, const AppendRows& rows,
                     const PagedKv& cache, const KvScales& scales, Stream stream) {
  constexpr const char* kOp = "append_paged_kv";
  append({.op = kOp,
          .key = {kOp, "key", key},
          .value = {kOp, "value", value},
          .pool_k = {kOp, "cache.k", cache.k},
          .pool_v = {kOp, "cache.v", cache.v},
          .layout = cache.layout,
          .scales = scales},
         rows, stream);
}

void append_paged_kv(const TensorView& key, const TensorView& value,
                     const TensorView& batch_indices, const TensorView& positions,
                     const PagedKv& cache, const PageTable& table, Stream stream) {
  append_paged_kv(key, value, AppendRows(batch_indices, positions, table), cache, {}, stream);
}

void append_paged_mla(const TensorView& ckv, const TensorView& kpe, const AppendRows& rows,
                      const TensorView& ckv_cache, const TensorView& kpe_cache,
                      const KvScales& scales, Stream stream) {
  constexpr const char* kOp = "append_paged_mla";
  for (const Arg& arg : {Arg{kOp, "ckv", ckv}, Arg{kOp, "kpe", kpe}}) check::rank(arg, 2);
  for (const Arg& arg : {Arg{kOp, "ckv_cache", ckv_cache}, Arg{kOp, "kpe_cache", kpe_cache}}) {
    check::rank(arg, 3);
  }
  // One head that all query heads share.
  const TensorView ckv_heads = rows::with_dim(ckv, 1), kpe_heads = rows::with_dim(kpe, 1);
  const TensorView ckv_pool = rows::with_dim(ckv_cache, 2), kpe_pool = rows::with_dim(kpe_cache, 2);
  append({.op = kOp,
          .key = {kOp, "ckv", ckv_heads},
          .value = {kOp, "kpe", kpe_heads},
          .pool_k = {kOp, "ckv_cache", ckv_pool},
          .pool_v = {kOp, "kpe_cache", kpe_pool},
          .layout = KvLayout::nhd,
          .scales = scales},
         rows, stream);
}

}  // namespace quire
