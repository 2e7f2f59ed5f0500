#include "ops/attention_metadata.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "cuda/attention.h"

namespace quire {
namespace {

constexpr std::size_t kAlignment = 256;  // of each array, as of device memory itself

// Places arrays one after the other.
class Layout {
 public:
  template <class T>
  std::size_t add(std::size_t count) {
    const std::size_t offset = bytes_;
    bytes_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

struct Offsets {
  std::size_t items, worker_indptr, merges, counters, qo_indptr, kv_indptr, kv_lens, kv_indices,
      bytes;
};

// kv_indices comes last: it may be copied from elsewhere than the rest.
Offsets offsets_of(const PlannedAttention& planned) {
  const AttentionLengths& lengths = planned.lengths;
  const bool paged = planned.shape.page_size > 0;
  Layout layout;
  Offsets offsets{};
  offsets.items = layout.add<kernels::WorkItem>(static_cast<std::size_t>(planned.extent.num_items));
  offsets.worker_indptr = layout.add<std::int32_t>(planned.work.worker_indptr.size());
  offsets.merges =
      layout.add<kernels::MergeItem>(static_cast<std::size_t>(planned.extent.num_merges));
  const bool counts = planned.tile.merges_itself;
  offsets.counters = layout.add<std::uint32_t>(
      counts ? static_cast<std::size_t>(planned.extent.num_partial_rows + 1) / 2 : 0);
  offsets.qo_indptr = layout.add<std::int32_t>(lengths.qo_indptr.size());
  offsets.kv_indptr = layout.add<std::int32_t>(lengths.kv_indptr.size());
  offsets.kv_lens = layout.add<std::int32_t>(lengths.kv_lens.size());
  offsets.kv_indices =
      layout.add<std::int32_t>(paged ? static_cast<std::size_t>(planned.extent.num_kv_entries) : 0);
  offsets.bytes = layout.bytes();
  return offsets;
}

template <class T>
void put(std::vector<std::byte>& staging, std::size_t offset, const std::vector<T>& values) {
  if (!values.empty()) std::memcpy(&staging[offset], values.data(), values.size() * sizeof(T));
}

}  // namespace

void AttentionMetadata::reserve(const PlannedAttention& planned, Device device) {
  const std::size_t bytes = offsets_of(planned).bytes;
  if (bytes <= current_.size_bytes()) return;
  next_ = Buffer(std::max(bytes, current_.size_bytes() / 2 * 3), device);
}

void AttentionMetadata::upload(const PlannedAttention& planned, const TensorView* kv_indices,
                               Stream stream) {
  const Offsets offsets = offsets_of(planned);
  if (offsets.bytes > current_.size_bytes()) current_ = std::move(next_);
  const plan::AttentionPlan& work = planned.work;
  const AttentionLengths& lengths = planned.lengths;
  std::vector<std::byte> staging(offsets.bytes);  // zeros: so begin the counters
  put(staging, offsets.items, work.items);
  put(staging, offsets.worker_indptr, work.worker_indptr);
  // The merge of a captured graph covers all room there is: the rest points at no request.
  std::vector<kernels::MergeItem> merges = work.merges;
  merges.resize(static_cast<std::size_t>(planned.extent.num_merges), {.request = -1});
  put(staging, offsets.merges, merges);
  put(staging, offsets.qo_indptr, lengths.qo_indptr);
  put(staging, offsets.kv_indptr, lengths.kv_indptr);
  put(staging, offsets.kv_lens, lengths.kv_lens);
  const std::size_t page_bytes =
      kv_indices == nullptr ? 0
                            : static_cast<std::size_t>(lengths.kv_entries()) * sizeof(std::int32_t);
  const bool pages_on_host = page_bytes > 0 && kv_indices->device.is_cpu();
  if (pages_on_host) std::memcpy(&staging[offsets.kv_indices], kv_indices->data, page_bytes);

  auto* base = static_cast<std::byte*>(current_.data());
  const Device device = current_.device();
  const std::size_t bytes = page_bytes > 0 && !pages_on_host ? offsets.kv_indices : offsets.bytes;
  dispatch(
      "attention.plan", device, [&] { std::memcpy(base, staging.data(), bytes); },
      [&] { cuda::upload(device.index, base, staging.data(), bytes, stream); });
  if (page_bytes > 0 && !pages_on_host) {
    copy(base + offsets.kv_indices, device, kv_indices->data, kv_indices->device, page_bytes,
         stream);
  }

  const auto ints = [base](std::size_t offset) {
    return reinterpret_cast<const kernels::i32*>(base + offset);
  };
  arrays_.items = reinterpret_cast<const kernels::WorkItem*>(base + offsets.items);
  arrays_.worker_indptr = ints(offsets.worker_indptr);
  arrays_.merges = reinterpret_cast<const kernels::MergeItem*>(base + offsets.merges);
  arrays_.counters = reinterpret_cast<kernels::u32*>(base + offsets.counters);
  arrays_.qo_indptr = ints(offsets.qo_indptr);
  arrays_.kv_indptr = ints(offsets.kv_indptr);
  arrays_.kv_lens = ints(offsets.kv_lens);
  arrays_.kv_indices = kv_indices == nullptr ? nullptr : ints(offsets.kv_indices);
}

void AttentionMetadata::fill(kernels::AttentionParams& params) const {
  params.items = arrays_.items;
  params.worker_indptr = arrays_.worker_indptr;
  params.merges = arrays_.merges;
  params.counters = arrays_.counters;
  params.qo_indptr = arrays_.qo_indptr;
  params.kv_indptr = arrays_.kv_indptr;
  params.kv_lens = arrays_.kv_lens;
  params.kv_indices = arrays_.kv_indices;
}

}  // namespace quire
