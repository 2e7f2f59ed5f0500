#include "ops/attention_lengths.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string_view>

#include "core/check.h"

namespace quire {
namespace {

constexpr const char* kOp = "attention.plan";

std::span<const std::int32_t> entries(const TensorView& tensor) {
  return {static_cast<const std::int32_t*>(tensor.data), static_cast<std::size_t>(tensor.shape[0])};
}

void check_array(const check::Arg& arg) {
  check::rank(arg, 1);
  check::dtype(arg, {DType::i32});
  check::contiguous(arg);
  check::memory(arg);
}

void check_host_array(const check::Arg& arg) {
  check_array(arg);
  if (arg.tensor.device.is_cpu()) return;
  check::fail(kOp, arg.name, to_string(arg.tensor.device), "cpu: planning reads it on the host");
}

void check_indptr(std::string_view name, std::span<const std::int32_t> indptr) {
  if (indptr.empty()) check::fail(kOp, name, "0 entries", "batch + 1 entries");
  if (indptr[0] != 0) check::fail(kOp, name, fmt::format("{} at [0]", indptr[0]), "0");
  for (std::size_t i = 1; i < indptr.size(); ++i) {
    if (indptr[i] >= indptr[i - 1]) continue;
    check::fail(kOp, name, fmt::format("{} at [{}] after {}", indptr[i], i, indptr[i - 1]),
                "values that do not decrease");
  }
}

void check_same_batch(const TensorView& qo_indptr, const TensorView& kv_indptr) {
  if (qo_indptr.shape[0] == kv_indptr.shape[0]) return;
  check::fail(kOp, "qo_indptr and kv_indptr",
              fmt::format("{} and {} entries", qo_indptr.shape[0], kv_indptr.shape[0]),
              "the same number, batch + 1");
}

void read_differences(std::span<const std::int32_t> indptr, std::vector<std::int32_t>& lens) {
  lens.resize(indptr.size() - 1);
  for (std::size_t i = 0; i < lens.size(); ++i) lens[i] = indptr[i + 1] - indptr[i];
}

void read_indptrs(const TensorView& qo_indptr, const TensorView& kv_indptr,
                  AttentionLengths& lengths) {
  check_host_array({kOp, "qo_indptr", qo_indptr});
  check_host_array({kOp, "kv_indptr", kv_indptr});
  check_same_batch(qo_indptr, kv_indptr);
  const auto qo = entries(qo_indptr), kv = entries(kv_indptr);
  check_indptr("qo_indptr", qo);
  check_indptr("kv_indptr", kv);
  lengths.qo_indptr.assign(qo.begin(), qo.end());
  lengths.kv_indptr.assign(kv.begin(), kv.end());
  read_differences(qo, lengths.qo_lens);
  read_differences(kv, lengths.kv_lens);
  lengths.largest_page = -1;
  lengths.largest_page_at = -1;
}

// In tokens, from whole pages.
std::int32_t paged_kv_len(std::int32_t num_pages, std::int32_t last_page_len, int page_size,
                          std::size_t request) {
  if (num_pages == 0) return 0;
  if (last_page_len < 1 || last_page_len > page_size) {
    check::fail(kOp, "kv_last_page_len", fmt::format("{} at [{}]", last_page_len, request),
                fmt::format("1 to {}, the page_size", page_size));
  }
  const std::int64_t kv_len = (std::int64_t{num_pages} - 1) * page_size + last_page_len;
  if (kv_len > std::numeric_limits<std::int32_t>::max()) {
    check::fail(kOp, "kv_indptr", fmt::format("{} tokens for request {}", kv_len, request),
                "at most 2147483647");
  }
  return static_cast<std::int32_t>(kv_len);
}

struct LargestPage {
  std::int32_t id;
  std::int64_t at;
  bool some_negative;
};

// The largest of a block's ids, of which there are a multiple of kLanes. Lanes of their own keep
// comparisons from waiting for each other: a third of the time.
constexpr std::size_t kLanes = 16;
std::int32_t largest_of(std::span<const std::int32_t> ids, std::int32_t& signs) {
  std::array<std::int32_t, kLanes> largest{}, bits{};
  for (std::size_t i = 0; i < ids.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = std::max(largest[lane], ids[i + lane]);
      bits[lane] |= ids[i + lane];
    }
  }
  for (const std::int32_t b : bits) signs |= b;
  return *std::ranges::max_element(largest);
}

// Block by block: where the largest is matters once, what it is for every id.
LargestPage largest_page(std::span<const std::int32_t> ids) {
  constexpr std::size_t kBlock = 1024;
  std::int32_t largest = ids[0], signs = 0;
  std::size_t largest_block = 0;
  for (std::size_t begin = 0; begin < ids.size(); begin += kBlock) {
    const auto block = ids.subspan(begin, std::min(kBlock, ids.size() - begin));
    const auto lanes = block.first(block.size() / kLanes * kLanes);
    std::int32_t largest_here = std::max(largest, largest_of(lanes, signs));
    for (const std::int32_t id : block.subspan(lanes.size())) {
      largest_here = std::max(largest_here, id);
      signs |= id;
    }
    if (largest_here > largest) largest_block = begin;
    largest = largest_here;
  }
  const auto from = ids.begin() + static_cast<std::ptrdiff_t>(largest_block);
  return {largest, std::find(from, ids.end(), largest) - ids.begin(), signs < 0};
}

void check_page_ids(const TensorView& indices, Device device, AttentionLengths& lengths) {
  const check::Arg arg{kOp, "kv_indices", indices};
  check_array(arg);
  if (!indices.device.is_cpu() && indices.device != device) {
    check::fail(kOp, "kv_indices", to_string(indices.device),
                device.is_cpu() ? "cpu" : fmt::format("cpu or {}", to_string(device)));
  }
  if (indices.shape[0] < lengths.kv_entries()) {
    check::fail(kOp, "kv_indices", fmt::format("{} entries", indices.shape[0]),
                fmt::format("at least {}, the last entry of kv_indptr", lengths.kv_entries()));
  }
  if (!indices.device.is_cpu() || lengths.kv_entries() == 0) return;
  const auto ids = entries(indices).first(static_cast<std::size_t>(lengths.kv_entries()));
  const LargestPage largest = largest_page(ids);
  if (largest.some_negative) {
    const auto smallest = std::ranges::min_element(ids);
    const auto at = smallest - ids.begin();
    check::fail(kOp, "kv_indices",
                fmt::format("{} at [{}] ({})", *smallest, at, lengths.owner_of_entry(at)),
                "page ids of 0 or more");
  }
  lengths.largest_page = largest.id;
  lengths.largest_page_at = largest.at;
}

}  // namespace

std::string AttentionLengths::owner(std::ptrdiff_t request) const {
  if (first_requests.empty()) return fmt::format("request {}", request);
  const auto next_level = std::ranges::upper_bound(first_requests, request);
  return fmt::format("request {} of level {}", request - *(next_level - 1),
                     next_level - first_requests.begin() - 1);
}

std::string AttentionLengths::owner_of_entry(std::int64_t index) const {
  return owner(std::ranges::upper_bound(kv_indptr, index) - kv_indptr.begin() - 1);
}

void read_paged_lengths(const TensorView& qo_indptr, const PageTable& table, int page_size,
                        Device device, AttentionLengths& lengths) {
  check_host_array({kOp, "kv_last_page_len", table.last_page_len});
  read_indptrs(qo_indptr, table.indptr, lengths);
  check::dim({kOp, "kv_last_page_len", table.last_page_len}, 0, lengths.batch_size(), "batch");
  const auto last_page_len = entries(table.last_page_len);
  for (std::size_t r = 0; r < lengths.kv_lens.size(); ++r) {
    lengths.kv_lens[r] = paged_kv_len(lengths.kv_lens[r], last_page_len[r], page_size, r);
  }
  check_page_ids(table.indices, device, lengths);
}

void read_ragged_lengths(const TensorView& qo_indptr, const TensorView& kv_indptr,
                         AttentionLengths& lengths) {
  read_indptrs(qo_indptr, kv_indptr, lengths);
}

}  // namespace quire
