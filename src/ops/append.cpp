#include "quire/append.h"

#include <fmt/format.h>

#include <cstdint>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/append.h"
#include "cuda/append.h"

namespace quire {
namespace {

using check::Arg;
using kernels::AppendParams;
using kernels::AppendSide;

std::int32_t host_value(const TensorView& tensor, std::int64_t i) {
  return static_cast<const std::int32_t*>(tensor.data)[i * tensor.strides[0]];
}

[[noreturn]] void fail_at(const Arg& arg, std::int64_t i, const std::string& expected) {
  check::fail(arg.op, arg.name, fmt::format("{} at {}", host_value(arg.tensor, i), i), expected);
}

// An i32 vector on the device of `like`.
void check_vector(const Arg& arg, const Arg& like, bool is_output = false) {
  check::rank(arg, 1);
  check::dtype(arg, {DType::i32});
  check::device(arg, like);
  check::memory(arg, is_output);
}

// An indptr has one entry more than there are requests, so at least one.
std::int64_t batch_of_indptr(const Arg& arg) {
  if (arg.tensor.shape[0] == 0) check::fail(arg.op, arg.name, "0 entries", "batch + 1 entries");
  return arg.tensor.shape[0] - 1;
}

void check_host_indptr(const Arg& arg) {
  if (host_value(arg.tensor, 0) != 0) fail_at(arg, 0, "0");
  for (std::int64_t i = 1; i < arg.tensor.shape[0]; ++i) {
    const std::int32_t previous = host_value(arg.tensor, i - 1);
    if (host_value(arg.tensor, i) < previous) {
      fail_at(arg, i, fmt::format("{} or more, the entry before it", previous));
    }
  }
}

void check_host_last_page_len(const Arg& indptr, const Arg& last_page_len, std::int64_t page_size) {
  for (std::int64_t r = 0; r < last_page_len.tensor.shape[0]; ++r) {
    if (host_value(indptr.tensor, r) == host_value(indptr.tensor, r + 1)) continue;
    const std::int32_t length = host_value(last_page_len.tensor, r);
    if (length < 1 || length > page_size) {
      fail_at(last_page_len, r, fmt::format("1 to page_size ({})", page_size));
    }
  }
}

constexpr const char* kAppend = "append_paged_kv";

struct AppendArgs {
  Arg key, value, batch_indices, positions, pool_k, pool_v, indptr, indices, last_page_len;
  KvLayout layout;

  int heads_dim() const { return layout == KvLayout::nhd ? 2 : 1; }
  int tokens_dim() const { return layout == KvLayout::nhd ? 1 : 2; }
};

void check_rows(const AppendArgs& a) {
  check::rank(a.key, 3);
  check::dtype(a.key, {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2,
                       DType::i32, DType::u8, DType::boolean});
  check::last_dim_contiguous(a.key);
  check::memory(a.key);
  check::rank(a.value, 3);
  check::dtype(a.value, {a.key.tensor.dtype});
  check::dim(a.value, 0, a.key.tensor.shape[0], "rows of key");
  check::dim(a.value, 1, a.key.tensor.shape[1], "num_kv_heads of key");
  check::last_dim_contiguous(a.value);
  check::device(a.value, a.key);
  check::memory(a.value);
  for (const Arg& arg : {a.batch_indices, a.positions}) {
    check_vector(arg, a.key);
    check::dim(arg, 0, a.key.tensor.shape[0], "rows of key");
  }
}

void check_pool(const AppendArgs& a, const Arg& pool, const Arg& rows) {
  check::rank(pool, 4);
  check::dtype(pool, {rows.tensor.dtype});
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

void check_table(const AppendArgs& a) {
  for (const Arg& arg : {a.indptr, a.indices, a.last_page_len}) {
    check_vector(arg, a.key);
    check::contiguous(arg);
  }
  check::dim(a.last_page_len, 0, batch_of_indptr(a.indptr), "batch of table.indptr");
}

void check_append(const AppendArgs& a) {
  check_rows(a);
  check_pool(a, a.pool_k, a.key);
  check_pool(a, a.pool_v, a.value);
  check::dim(a.pool_v, 0, a.pool_k.tensor.shape[0], "num_pages of cache.k");
  check::dim(a.pool_v, a.tokens_dim(), a.pool_k.tensor.shape[a.tokens_dim()],
             "page_size of cache.k");
  if (a.pool_k.tensor.shape[a.tokens_dim()] == 0) {
    check::fail(kAppend, "cache.k", "page_size 0", "page_size 1 or more");
  }
  check_table(a);
}

// Everything a host can see in the index arrays, so that nothing is written before an error.
void check_host_table(const AppendArgs& a, const AppendParams& p) {
  check_host_indptr(a.indptr);
  if (p.kv_indptr[p.batch_size] > p.num_indices) {
    check::fail(
        kAppend, "table.indices", fmt::format("{} entries", p.num_indices),
        fmt::format("{} or more, the last entry of table.indptr", p.kv_indptr[p.batch_size]));
  }
  check_host_last_page_len(a.indptr, a.last_page_len, p.page_size);
  for (std::int64_t row = 0; row < p.nnz; ++row) {
    const std::int32_t request = host_value(a.batch_indices.tensor, row);
    if (request < 0) continue;
    if (request >= p.batch_size) {
      fail_at(a.batch_indices, row, fmt::format("less than the batch of {}", p.batch_size));
    }
    const std::int32_t first = p.kv_indptr[request];
    const std::int32_t num_pages = p.kv_indptr[request + 1] - first;
    const std::int32_t position = host_value(a.positions.tensor, row);
    if (position < 0 || position / p.page_size >= num_pages) {
      fail_at(a.positions, row,
              fmt::format("a token of request {}, which has {} pages of {}", request, num_pages,
                          p.page_size));
    }
    const std::int32_t at = first + position / p.page_size;
    if (p.kv_indices[at] < 0 || p.kv_indices[at] >= p.num_pages) {
      fail_at(a.indices, at, fmt::format("0 to {}, a page of cache.k", p.num_pages - 1));
    }
  }
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

AppendParams make_params(const AppendArgs& a) {
  AppendParams p{};
  p.k = make_side(a, a.key, a.pool_k);
  p.v = make_side(a, a.value, a.pool_v);
  p.batch_indices = static_cast<const std::int32_t*>(a.batch_indices.tensor.data);
  p.positions = static_cast<const std::int32_t*>(a.positions.tensor.data);
  p.kv_indptr = static_cast<const std::int32_t*>(a.indptr.tensor.data);
  p.kv_indices = static_cast<const std::int32_t*>(a.indices.tensor.data);
  p.batch_indices_stride = rows::step(a.batch_indices.tensor, 0);
  p.positions_stride = rows::step(a.positions.tensor, 0);
  p.nnz = rows::count(a.key, a.key.tensor.shape[0], "rows");
  p.num_kv_heads = rows::count(a.key, a.key.tensor.shape[1], "heads");
  p.batch_size = rows::count(a.indptr, a.indptr.tensor.shape[0], "entries") - 1;
  p.page_size = rows::count(a.pool_k, a.pool_k.tensor.shape[a.tokens_dim()], "tokens a page");
  p.num_indices = rows::count(a.indices, a.indices.tensor.shape[0], "entries");
  p.num_pages = rows::count(a.pool_k, a.pool_k.tensor.shape[0], "pages");
  return p;
}

}  // namespace

void append_paged_kv(const TensorView& key, const TensorView& value,
                     const TensorView& batch_indices, const TensorView& positions,
                     const PagedKv& cache, const PageTable& table, Stream stream) {
  const AppendArgs a{.key = {kAppend, "key", key},
                     .value = {kAppend, "value", value},
                     .batch_indices = {kAppend, "batch_indices", batch_indices},
                     .positions = {kAppend, "positions", positions},
                     .pool_k = {kAppend, "cache.k", cache.k},
                     .pool_v = {kAppend, "cache.v", cache.v},
                     .indptr = {kAppend, "table.indptr", table.indptr},
                     .indices = {kAppend, "table.indices", table.indices},
                     .last_page_len = {kAppend, "table.last_page_len", table.last_page_len},
                     .layout = cache.layout};
  check_append(a);
  const AppendParams p = make_params(a);
  if (key.device.is_cpu()) check_host_table(a, p);
  if (p.nnz == 0 || p.num_kv_heads == 0 || p.k.head_bytes + p.v.head_bytes == 0) return;
  dispatch(
      kAppend, key.device, [&] { cpu::append_paged_kv(p); },
      [&] { cuda::append_paged_kv(p, key.device.index, stream); });
}

void get_batch_indices_positions(const TensorView& append_indptr, const TensorView& seq_lens,
                                 const TensorView& batch_indices, const TensorView& positions,
                                 Stream stream) {
  constexpr const char* kOp = "get_batch_indices_positions";
  const Arg indptr{kOp, "append_indptr", append_indptr}, lens{kOp, "seq_lens", seq_lens};
  const Arg requests{kOp, "batch_indices", batch_indices}, tokens{kOp, "positions", positions};
  check_vector(indptr, indptr);
  check_vector(lens, indptr);
  check_vector(requests, indptr, true);
  check_vector(tokens, indptr, true);
  check::dim(lens, 0, batch_of_indptr(indptr), "batch of append_indptr");
  check::same_shape(tokens, requests);

  kernels::BatchIndicesParams p{};
  p.append_indptr = static_cast<const std::int32_t*>(append_indptr.data);
  p.seq_lens = static_cast<const std::int32_t*>(seq_lens.data);
  p.batch_indices = static_cast<std::int32_t*>(batch_indices.data);
  p.positions = static_cast<std::int32_t*>(positions.data);
  p.append_indptr_stride = rows::step(append_indptr, 0);
  p.seq_lens_stride = rows::step(seq_lens, 0);
  p.batch_indices_stride = rows::step(batch_indices, 0);
  p.positions_stride = rows::step(positions, 0);
  p.batch_size = rows::count(indptr, append_indptr.shape[0], "entries") - 1;
  p.nnz = rows::count(requests, batch_indices.shape[0], "tokens");

  if (append_indptr.device.is_cpu()) {
    check_host_indptr(indptr);
    const std::int32_t total = host_value(append_indptr, p.batch_size);
    if (total > p.nnz) {
      fail_at(indptr, p.batch_size, fmt::format("at most {}, the size of batch_indices", p.nnz));
    }
    for (std::int64_t r = 0; r < p.batch_size; ++r) {
      const std::int32_t added = host_value(append_indptr, r + 1) - host_value(append_indptr, r);
      if (host_value(seq_lens, r) < added) {
        fail_at(lens, r, fmt::format("{} or more, the tokens appended to it", added));
      }
    }
  }
  dispatch(
      kOp, append_indptr.device, [&] { cpu::batch_indices_positions(p); },
      [&] { cuda::batch_indices_positions(p, append_indptr.device.index, stream); });
}

void get_seq_lens(const TensorView& kv_indptr, const TensorView& kv_last_page_len, int page_size,
                  const TensorView& seq_lens, Stream stream) {
  constexpr const char* kOp = "get_seq_lens";
  const Arg indptr{kOp, "kv_indptr", kv_indptr}, last{kOp, "kv_last_page_len", kv_last_page_len};
  const Arg lens{kOp, "seq_lens", seq_lens};
  check_vector(indptr, indptr);
  check_vector(last, indptr);
  check_vector(lens, indptr, true);
  check::dim(last, 0, batch_of_indptr(indptr), "batch of kv_indptr");
  check::dim(lens, 0, batch_of_indptr(indptr), "batch of kv_indptr");
  if (page_size < 1) check::fail(kOp, "page_size", std::to_string(page_size), "1 or more");

  kernels::SeqLensParams p{};
  p.kv_indptr = static_cast<const std::int32_t*>(kv_indptr.data);
  p.kv_last_page_len = static_cast<const std::int32_t*>(kv_last_page_len.data);
  p.seq_lens = static_cast<std::int32_t*>(seq_lens.data);
  p.kv_indptr_stride = rows::step(kv_indptr, 0);
  p.kv_last_page_len_stride = rows::step(kv_last_page_len, 0);
  p.seq_lens_stride = rows::step(seq_lens, 0);
  p.batch_size = rows::count(indptr, kv_indptr.shape[0], "entries") - 1;
  p.page_size = page_size;

  if (kv_indptr.device.is_cpu()) {
    check_host_indptr(indptr);
    check_host_last_page_len(indptr, last, page_size);
  }
  dispatch(
      kOp, kv_indptr.device, [&] { cpu::seq_lens(p); },
      [&] { cuda::seq_lens(p, kv_indptr.device.index, stream); });
}

}  // namespace quire
