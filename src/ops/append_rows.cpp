#include "ops/append_rows.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/env.h"
#include "core/rows.h"
#include "cuda/append.h"

namespace quire {
namespace {

using check::Arg;
using kernels::SlotLookup;

struct TableArgs {
  Arg batch_indices, positions, indptr, indices, last_page_len;
};

void check_table_shapes(const TableArgs& a, const Arg& data) {
  for (const Arg& arg : {a.batch_indices, a.positions}) {
    check_index_vector(arg, data);
    check::dim(arg, 0, data.tensor.shape[0], fmt::format("rows of {}", data.name));
  }
  for (const Arg& arg : {a.indptr, a.indices, a.last_page_len}) {
    check_index_vector(arg, data);
    check::contiguous(arg);
  }
  check::dim(a.last_page_len, 0, batch_of_indptr(a.indptr), "batch of table.indptr");
}

// Everything a host can see in the index arrays, so that nothing is written before an error.
void check_host_table(const TableArgs& a, const SlotLookup& p, const PoolSize& pool) {
  check_host_indptr(a.indptr);
  if (p.kv_indptr[p.batch_size] > p.num_indices) {
    check::fail(
        a.indices.op, "table.indices", fmt::format("{} entries", p.num_indices),
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
      fail_at(a.indices, at, fmt::format("0 to {}, a page of {}", p.num_pages - 1, pool.pool.name));
    }
  }
}

SlotLookup by_table(const TableArgs& a, const Arg& data, const PoolSize& pool, SlotLookup p) {
  p.batch_indices = static_cast<const std::int32_t*>(a.batch_indices.tensor.data);
  p.positions = static_cast<const std::int32_t*>(a.positions.tensor.data);
  p.kv_indptr = static_cast<const std::int32_t*>(a.indptr.tensor.data);
  p.kv_indices = static_cast<const std::int32_t*>(a.indices.tensor.data);
  p.batch_indices_stride = rows::step(a.batch_indices.tensor, 0);
  p.positions_stride = rows::step(a.positions.tensor, 0);
  p.nnz = rows::count(data, data.tensor.shape[0], "rows");
  p.batch_size = rows::count(a.indptr, a.indptr.tensor.shape[0], "entries") - 1;
  p.num_indices = rows::count(a.indices, a.indices.tensor.shape[0], "entries");
  if (data.tensor.device.is_cpu()) check_host_table(a, p, pool);
  return p;
}

SlotLookup by_slots(const Arg& slots, const Arg& data, SlotLookup p) {
  check::rank(slots, 1);
  check::dtype(slots, {DType::i32, DType::i64});
  check::device(slots, data);
  check::memory(slots);
  if (slots.tensor.shape[0] > data.tensor.shape[0]) {
    check::fail(slots.op, slots.name, fmt::format("{} entries", slots.tensor.shape[0]),
                fmt::format("at most {}, the rows of {}", data.tensor.shape[0], data.name));
  }
  p.slot_mapping = slots.tensor.data;
  p.slot_mapping_stride = rows::step(slots.tensor, 0);
  p.wide_slots = slots.tensor.dtype == DType::i64;
  p.nnz = rows::count(slots, slots.tensor.shape[0], "rows");
  if (!data.tensor.device.is_cpu()) return p;
  const std::int64_t num_slots = std::int64_t{p.num_pages} * p.page_size;
  for (std::int64_t row = 0; row < p.nnz; ++row) {
    const std::int64_t slot = mapped_slot(p, row);
    if (slot >= num_slots) {
      check::fail(slots.op, slots.name, fmt::format("{} at {}", slot, row),
                  fmt::format("less than the {} slots of the pool", num_slots));
    }
  }
  return p;
}

}  // namespace

std::int32_t host_value(const TensorView& tensor, std::int64_t i) {
  return static_cast<const std::int32_t*>(tensor.data)[i * tensor.strides[0]];
}

void fail_at(const Arg& arg, std::int64_t i, const std::string& expected) {
  check::fail(arg.op, arg.name, fmt::format("{} at {}", host_value(arg.tensor, i), i), expected);
}

void check_index_vector(const Arg& arg, const Arg& like, bool is_output) {
  check::rank(arg, 1);
  check::dtype(arg, {DType::i32});
  check::device(arg, like);
  check::memory(arg, is_output);
}

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

SlotLookup check_append_rows(const AppendRows& rows, const Arg& data, const PoolSize& pool) {
  if (pool.page_size == 0) {
    check::fail(data.op, pool.pool.name, "page_size 0", "page_size 1 or more");
  }
  SlotLookup p{};
  p.page_size = rows::count(pool.pool, pool.page_size, "tokens a page");
  p.num_pages = rows::count(pool.pool, pool.num_pages, "pages");
  if (rows.slot_mapping()) {
    return by_slots({data.op, "slot_mapping", *rows.slot_mapping()}, data, p);
  }
  const TableArgs table{{data.op, "batch_indices", rows.batch_indices()},
                        {data.op, "positions", rows.positions()},
                        {data.op, "table.indptr", rows.table().indptr},
                        {data.op, "table.indices", rows.table().indices},
                        {data.op, "table.last_page_len", rows.table().last_page_len}};
  check_table_shapes(table, data);
  return by_table(table, data, pool, p);
}

void check_device_slots(std::string_view op, const SlotLookup& slots, Device device,
                        Stream stream) {
  if (device.is_cpu() || slots.nnz == 0 || !env::flag("QUIRE_CHECKED")) return;
  dispatch(
      std::string(op).c_str(), device, [] {},
      [&] {
        const std::int64_t row = cuda::first_bad_row(device.index, slots, stream);
        if (row < 0) return;
        check::fail(op, slots.slot_mapping != nullptr ? "slot_mapping" : "positions",
                    fmt::format("row {}, which leads outside the pages", row),
                    "rows that lead to a page of the pool, or are negative");
      });
}

}  // namespace quire
