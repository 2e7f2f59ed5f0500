#include "quire/pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/pages.h"
#include "cuda/pages.h"
#include "ops/pages.h"

namespace quire {
namespace {

using check::Arg;
using kernels::PageCopyParams;

void check_pages(const Arg& pages, bool is_output) {
  check::rank_at_least(pages, 2);
  check::memory(pages, is_output);
  check::last_dim_contiguous(pages);
}

void check_same_pages(const Arg& a, const Arg& b) {
  check::rank(a, b.tensor.rank);
  check::dtype(a, {b.tensor.dtype});
  for (int d = 1; d < a.tensor.rank; ++d) {
    check::dim(a, d, b.tensor.shape[d], fmt::format("as in {}", b.name));
  }
  check::device(a, b);
}

void check_ids(const Arg& ids, const Arg& pool) {
  check::rank(ids, 1);
  check::dtype(ids, {DType::i32, DType::i64});
  check::device(ids, pool);
  check::memory(ids);
}

std::int64_t host_id(const TensorView& ids, std::int64_t i) {
  const std::int64_t at = i * ids.strides[0];
  return ids.dtype == DType::i64 ? static_cast<const std::int64_t*>(ids.data)[at]
                                 : static_cast<const std::int32_t*>(ids.data)[at];
}

// On the CPU: ids inside the pool.
void check_host_ids(const Arg& ids, const Arg& pool) {
  if (!pool.tensor.device.is_cpu()) return;
  for (std::int64_t i = 0; i < ids.tensor.shape[0]; ++i) {
    if (host_id(ids.tensor, i) < pool.tensor.shape[0]) continue;
    check::fail(ids.op, ids.name, fmt::format("{} at {}", host_id(ids.tensor, i), i),
                fmt::format("less than the {} pages of {}", pool.tensor.shape[0], pool.name));
  }
}

// On the CPU: no page is written twice, or written and read by another entry.
void check_host_targets(const Arg& dst, const TensorView* src) {
  if (!dst.tensor.device.is_cpu()) return;
  std::set<std::int64_t> read, written;
  const auto is_skipped = [&](std::int64_t i) {
    return host_id(dst.tensor, i) < 0 || (src != nullptr && host_id(*src, i) < 0);
  };
  for (std::int64_t i = 0; i < dst.tensor.shape[0]; ++i) {
    if (!is_skipped(i) && src != nullptr) read.insert(host_id(*src, i));
  }
  for (std::int64_t i = 0; i < dst.tensor.shape[0]; ++i) {
    if (is_skipped(i)) continue;
    const std::int64_t page = host_id(dst.tensor, i);
    if (read.count(page) == 0 && written.insert(page).second) continue;
    check::fail(dst.op, dst.name, fmt::format("{} at {}", page, i),
                "pages that no other entry reads or writes");
  }
}

// The dimensions of a page; neighbours that lie evenly on both sides become one.
void fill_page(PageCopyParams& p, const Arg& from, const Arg& to) {
  const int last = from.tensor.rank - 1;
  const auto element = static_cast<std::int64_t>(size_bytes(from.tensor.dtype));
  std::int64_t run = from.tensor.shape[last] * element;
  int d = last - 1;
  for (; d > 0; --d) {  // grow the contiguous run
    const std::int64_t size = from.tensor.shape[d];
    if (size != 1 &&
        (from.tensor.strides[d] * element != run || to.tensor.strides[d] * element != run)) {
      break;
    }
    run *= size;
  }
  p.row_bytes = rows::count(from, run, "bytes a run");
  p.rows = 1;
  for (int i = 1; i <= d; ++i) {
    p.shape[p.num_dims] = rows::count(from, from.tensor.shape[i], "rows");
    p.from_strides[p.num_dims] = rows::step_bytes(from.tensor, i);
    p.to_strides[p.num_dims] = rows::step_bytes(to.tensor, i);
    ++p.num_dims;
    p.rows = rows::count(from, std::int64_t{p.rows} * from.tensor.shape[i], "rows");
  }
}

// offsets: of the pools from the first one, which `from` and `to` are of, in bytes.
void run(const char* op, const Arg& from, const TensorView* src, const Arg& to,
         const TensorView* dst, Stream stream, const std::vector<std::int64_t>& offsets = {0}) {
  const TensorView* ids = src != nullptr ? src : dst;
  PageCopyParams p{};
  p.from = from.tensor.data;
  p.to = to.tensor.data;
  p.src = src != nullptr ? src->data : nullptr;
  p.dst = dst != nullptr ? dst->data : nullptr;
  p.src_stride = src != nullptr ? rows::step(*src, 0) : 0;
  p.dst_stride = dst != nullptr ? rows::step(*dst, 0) : 0;
  p.from_page_stride = rows::step_bytes(from.tensor, 0);
  p.to_page_stride = rows::step_bytes(to.tensor, 0);
  p.from_pages = from.tensor.shape[0];
  p.to_pages = to.tensor.shape[0];
  p.num_copies = rows::count(from, ids != nullptr ? ids->shape[0] : from.tensor.shape[0], "copies");
  fill_page(p, from, to);
  if (p.num_copies == 0 || p.rows == 0 || p.row_bytes == 0) return;
  kernels::PageCopyConfig config;
  if (ids != nullptr) config.index_dtype = check::to_kernel(ids->dtype);
  const Device device = from.tensor.device;
  for (std::size_t first = 0; first < offsets.size(); first += kernels::kMaxPagePools) {
    const std::size_t end = std::min(first + kernels::kMaxPagePools, offsets.size());
    p.num_pools = static_cast<int>(end - first);
    std::copy(offsets.begin() + static_cast<std::ptrdiff_t>(first),
              offsets.begin() + static_cast<std::ptrdiff_t>(end), p.pool_offsets);
    dispatch(
        op, device, [&] { cpu::copy_pages(config, p); },
        [&] { cuda::copy_pages(config, p, device.index, stream); });
  }
}

}  // namespace

void copy_entries(const Arg& from, const Arg& to, Stream stream) {
  run(from.op.data(), from, nullptr, to, nullptr, stream);
}

namespace {

constexpr const char* kCopy = "copy_pages";

// Everything of a copy but the pools behind the first.
void check_copy(const Arg& pool, const Arg& src, const Arg& dst) {
  check_pages(pool, true);
  check_ids(src, pool);
  check_ids(dst, pool);
  check::dtype(dst, {src.tensor.dtype});
  check::same_shape(dst, src);
  check_host_ids(src, pool);
  check_host_ids(dst, pool);
  check_host_targets(dst, &src.tensor);
}

// How far the pool is from the first one, which it must be like, in bytes.
std::int64_t pool_offset(const Arg& pool, const Arg& first) {
  check_pages(pool, true);
  check::dtype(pool, {first.tensor.dtype});
  check::same_shape(pool, first);
  check::device(pool, first);
  for (int d = 0; d < first.tensor.rank; ++d) {
    if (rows::step(pool.tensor, d) == rows::step(first.tensor, d)) continue;
    check::fail(kCopy, pool.name, to_string(pool.tensor),
                "the strides of pools[0]: " + to_string(first.tensor));
  }
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(pool.tensor.data) -
                                   reinterpret_cast<std::uintptr_t>(first.tensor.data));
}

}  // namespace

void copy_pages(const TensorView& pool, const TensorView& src, const TensorView& dst,
                Stream stream) {
  const Arg pages{kCopy, "pool", pool};
  check_copy(pages, {kCopy, "src", src}, {kCopy, "dst", dst});
  run(kCopy, pages, &src, pages, &dst, stream);
}

void copy_pages(std::span<const TensorView> pools, const TensorView& src, const TensorView& dst,
                Stream stream) {
  if (pools.empty()) check::fail(kCopy, "pools", "none", "one or more");
  const Arg first{kCopy, "pools[0]", pools[0]};
  check_copy(first, {kCopy, "src", src}, {kCopy, "dst", dst});
  std::vector<std::int64_t> offsets;
  for (std::size_t i = 0; i < pools.size(); ++i) {
    const std::string name = fmt::format("pools[{}]", i);
    offsets.push_back(pool_offset({kCopy, name, pools[i]}, first));
  }
  run(kCopy, first, &src, first, &dst, stream, offsets);
}

void gather_pages(const TensorView& pool, const TensorView& pages, const TensorView& out,
                  Stream stream) {
  constexpr const char* kOp = "gather_pages";
  const Arg from{kOp, "pool", pool}, ids{kOp, "pages", pages}, to{kOp, "out", out};
  check_pages(from, false);
  check_pages(to, true);
  check_same_pages(to, from);
  check_ids(ids, from);
  check::dim(to, 0, pages.shape[0], "number of pages");
  check_host_ids(ids, from);
  run(kOp, from, &pages, to, nullptr, stream);
}

void scatter_pages(const TensorView& in, const TensorView& pages, const TensorView& pool,
                   Stream stream) {
  constexpr const char* kOp = "scatter_pages";
  const Arg from{kOp, "in", in}, ids{kOp, "pages", pages}, to{kOp, "pool", pool};
  check_pages(from, false);
  check_pages(to, true);
  check_same_pages(to, from);
  check_ids(ids, from);
  check::dim(from, 0, pages.shape[0], "number of pages");
  check_host_ids(ids, to);
  check_host_targets(ids, nullptr);
  run(kOp, from, nullptr, to, &pages, stream);
}

}  // namespace quire
