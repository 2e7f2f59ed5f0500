#include "ops/attention_device_table.h"

#include <fmt/format.h>

#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "core/check.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan_on_device";

void check_array(const check::Arg& arg, int rank, Device device) {
  check::rank(arg, rank);
  check::dtype(arg, {DType::i32});
  check::contiguous(arg);
  check::memory(arg);
  if (arg.tensor.device == device) return;
  check::fail(kOp, arg.name, to_string(arg.tensor.device),
              fmt::format("{}, the device of the engine", to_string(device)));
}

const std::int32_t* ints(const TensorView& tensor) {
  return static_cast<const std::int32_t*>(tensor.data);
}

TensorView view_of(std::vector<std::int32_t>& values) {
  return TensorView::contiguous(values.data(), DType::i32,
                                {static_cast<std::int64_t>(values.size())});
}

// The names of the page arrays that are there.
std::string given(const DevicePageTable& table) {
  std::string names = table.block_tables ? ", block_tables" : "";
  if (table.kv_indptr) names += ", kv_indptr";
  if (table.kv_indices) names += ", kv_indices";
  return names.empty() ? "no pages" : names.substr(2);
}

std::span<const std::int32_t> pages_of(const DevicePageTable& table, std::int64_t request) {
  if (table.block_tables) {
    const auto max_pages = static_cast<std::size_t>(table.block_tables->shape[1]);
    return {ints(*table.block_tables) + static_cast<std::size_t>(request) * max_pages, max_pages};
  }
  const std::int64_t begin = ints(*table.kv_indptr)[request];
  const std::int64_t end = ints(*table.kv_indptr)[request + 1];
  if (begin < 0 || begin > end || end > table.kv_indices->shape[0]) {
    check::fail(kOp, "kv_indptr", fmt::format("{} and {} at [{}]", begin, end, request),
                fmt::format("values that do not decrease, 0 to {}, the entries of kv_indices",
                            table.kv_indices->shape[0]));
  }
  return {ints(*table.kv_indices) + begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

DeviceTableSize check_device_table(const DevicePageTable& table, Device device) {
  check_array({kOp, "seq_lens", table.seq_lens}, 1, device);
  const std::int64_t batch = table.seq_lens.shape[0];
  const bool rectangle = table.block_tables.has_value();
  if (rectangle == (table.kv_indptr || table.kv_indices) ||
      table.kv_indptr.has_value() != table.kv_indices.has_value()) {
    check::fail(kOp, "table", given(table), "either block_tables, or kv_indptr and kv_indices");
  }
  const TensorView& pages = rectangle ? *table.block_tables : *table.kv_indices;
  if (rectangle) {
    const check::Arg arg{kOp, "block_tables", pages};
    check_array(arg, 2, device);
    check::dim(arg, 0, batch, "batch, the entries of seq_lens");
  } else {
    check_array({kOp, "kv_indices", pages}, 1, device);
    const check::Arg indptr{kOp, "kv_indptr", *table.kv_indptr};
    check_array(indptr, 1, device);
    check::dim(indptr, 0, batch + 1, "batch + 1");
  }
  if (pages.numel() > std::numeric_limits<std::int32_t>::max()) {
    check::fail(kOp, rectangle ? "block_tables" : "kv_indices",
                fmt::format("{} entries", pages.numel()), "at most 2147483647");
  }
  return {static_cast<int>(batch), pages.numel()};
}

PageTable HostTable::view() {
  return {view_of(kv_indptr), view_of(kv_indices), view_of(kv_last_page_len)};
}
TensorView HostTable::qo_view() { return view_of(qo_indptr); }

HostTable read_table(const DevicePageTable& table, int qo_len, int page_size) {
  HostTable host;
  host.qo_indptr = host.kv_indptr = {0};
  for (std::int64_t r = 0; r < table.seq_lens.shape[0]; ++r) {
    const std::span<const std::int32_t> pages = pages_of(table, r);
    const std::int64_t kv_len = ints(table.seq_lens)[r];
    const std::int64_t room = static_cast<std::int64_t>(pages.size()) * page_size;
    if (kv_len < 0 || kv_len > room) {
      check::fail(kOp, "seq_lens", fmt::format("{} at [{}]", kv_len, r),
                  fmt::format("0 to {}, what its pages hold", room));
    }
    const std::int64_t used = (kv_len + page_size - 1) / page_size;
    host.kv_indices.insert(host.kv_indices.end(), pages.begin(), pages.begin() + used);
    host.qo_indptr.push_back(host.qo_indptr.back() + qo_len);
    host.kv_indptr.push_back(static_cast<std::int32_t>(host.kv_indices.size()));
    host.kv_last_page_len.push_back(
        used == 0 ? 0 : static_cast<std::int32_t>(kv_len - (used - 1) * page_size));
  }
  return host;
}

}  // namespace quire
