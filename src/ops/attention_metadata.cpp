#include "ops/attention_metadata.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "core/backend.h"
#include "cuda/staging.h"

namespace quire {

struct AttentionMetadata::Offsets {
  std::size_t worker_indptr, merge_count, qo_indptr, kv_indptr, kv_lens, copy_indptr, items,
      counters, merges, kv_indices;
  std::size_t upload_bytes;  // all above
  std::size_t first_bad, sums, loads, cuts, cut_sums, first_cuts, bytes;
};

namespace {

using Offsets = AttentionMetadata::Offsets;

constexpr std::size_t kAlignment = 256;  // of each array, as of device memory itself

// Places arrays one after the other.
class Layout {
 public:
  template <class T>
  std::size_t add(std::int64_t count) {
    const std::size_t offset = bytes_;
    const std::size_t size = static_cast<std::size_t>(count) * sizeof(T);
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

// They are not in the workspace: others may write there between runs, and counters stay zero.
std::int64_t num_counters(const PlannedAttention& planned, std::int64_t num_partial_rows) {
  const bool merges_itself = planned.tile.merges_itself || planned.size.num_few_workers > 0;
  return merges_itself ? (num_partial_rows + 1) / 2 : 0;
}

Offsets offsets_of(const PlannedAttention& planned) {
  const AttentionExtent& extent = planned.extent;
  const bool paged = planned.shape.page_size > 0;
  const std::int64_t workers = plan::plan_workers(planned.tile, planned.size);
  Layout layout;
  Offsets offsets{};
  offsets.worker_indptr = layout.add<std::int32_t>(workers + 1);
  offsets.merge_count = layout.add<std::int32_t>(1);
  offsets.qo_indptr = layout.add<std::int32_t>(extent.batch_size + 1);
  offsets.kv_indptr = layout.add<std::int32_t>(extent.batch_size + 1);
  offsets.kv_lens = layout.add<std::int32_t>(extent.batch_size);
  offsets.copy_indptr =
      layout.add<std::int32_t>(static_cast<std::int64_t>(planned.copy_indptr.size()));
  offsets.items = layout.add<kernels::WorkItem>(extent.num_items);
  offsets.counters = layout.add<std::uint32_t>(num_counters(planned, extent.num_partial_rows));
  offsets.merges = layout.add<kernels::MergeItem>(extent.num_merges);
  offsets.kv_indices = layout.add<std::int32_t>(paged ? extent.num_kv_entries : 0);
  offsets.upload_bytes = layout.bytes();
  if (planned.reserved) {  // for plans that the device makes
    offsets.first_bad = layout.add<std::int32_t>(1);
    offsets.sums = layout.add<kernels::LineSums>(extent.batch_size + 1);
    offsets.loads = layout.add<std::int64_t>(workers);
    offsets.cuts = layout.add<kernels::LineCut>(workers + 1);
    offsets.cut_sums = layout.add<kernels::LineCutSums>(workers + 1);
    offsets.first_cuts = layout.add<std::int32_t>(workers + 1);
  }
  offsets.bytes = layout.bytes();
  return offsets;
}

template <class T>
T* at(std::byte* base, std::size_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

// `values`, then the last of them (0 without any) up to `count`.
void put_padded(std::int32_t* to, std::span<const std::int32_t> values, std::int64_t count,
                std::int32_t padding) {
  std::ranges::copy(values, to);
  std::fill(to + values.size(), to + count, padding);
}

// Everything but the page ids, as the kernels read it.
void write_host(const PlannedAttention& planned, const plan::AttentionPlanner& planner,
                const Offsets& offsets, std::byte* base) {
  const AttentionLengths& lengths = planned.lengths;
  const std::int64_t batch = planned.extent.batch_size;
  planner.write(planned.problem(), {.items = at<kernels::WorkItem>(base, offsets.items),
                                    .worker_indptr = at<std::int32_t>(base, offsets.worker_indptr),
                                    .merges = at<kernels::MergeItem>(base, offsets.merges)});
  *at<std::int32_t>(base, offsets.merge_count) = static_cast<std::int32_t>(planned.size.num_merges);
  std::fill_n(at<std::uint32_t>(base, offsets.counters),
              num_counters(planned, planned.size.num_partial_rows), 0u);
  put_padded(at<std::int32_t>(base, offsets.qo_indptr), lengths.qo_indptr, batch + 1,
             lengths.qo_indptr.back());
  put_padded(at<std::int32_t>(base, offsets.kv_indptr), lengths.kv_indptr, batch + 1,
             lengths.kv_indptr.back());
  put_padded(at<std::int32_t>(base, offsets.kv_lens), lengths.kv_lens, batch, 0);
  std::ranges::copy(planned.copy_indptr, at<std::int32_t>(base, offsets.copy_indptr));
}

// Calls f(pages, begin, bytes) with the place of each level's page ids that there are.
template <class F>
void for_each_pages(std::span<const TensorView> levels, F&& f) {
  std::size_t begin = 0;
  for (const TensorView& pages : levels) {
    const std::size_t bytes = static_cast<std::size_t>(pages.shape[0]) * sizeof(std::int32_t);
    if (bytes > 0) f(pages, begin, bytes);
    begin += bytes;
  }
}

// Of the page ids that the host has; 0 without any.
std::size_t end_of_host_pages(std::span<const TensorView> levels) {
  std::size_t end = 0;
  for_each_pages(levels, [&](const TensorView& pages, std::size_t begin, std::size_t bytes) {
    if (pages.device.is_cpu()) end = begin + bytes;
  });
  return end;
}

// What a plan has written, as few ranges as that is.
struct UsedRanges {
  std::array<cuda::StagedRange, 4> ranges;
  std::size_t count = 0;

  // Arrays that are full to their end join the next: one copy where nothing is reserved.
  void add(std::size_t begin, std::size_t bytes) {
    if (bytes == 0) return;
    if (count > 0 && begin - ranges[count - 1].end < kAlignment) {
      ranges[count - 1].end = begin + bytes;
    } else {
      ranges[count++] = {begin, begin + bytes};
    }
  }
};

UsedRanges used_ranges(const PlannedAttention& planned, const Offsets& offsets,
                       std::size_t host_page_bytes) {
  const auto size = [](std::int64_t count, std::size_t bytes) {
    return static_cast<std::size_t>(count) * bytes;
  };
  UsedRanges used;
  used.add(0, offsets.items + size(planned.size.num_items, sizeof(kernels::WorkItem)));
  used.add(offsets.counters,
           size(num_counters(planned, planned.size.num_partial_rows), sizeof(std::uint32_t)));
  used.add(offsets.merges, size(planned.size.num_merges, sizeof(kernels::MergeItem)));
  used.add(offsets.kv_indices, host_page_bytes);
  return used;
}

}  // namespace

AttentionMetadata::AttentionMetadata(Device device) : device_(device) {}

void AttentionMetadata::reserve(const PlannedAttention& planned) {
  const Offsets offsets = offsets_of(planned);
  if (offsets.bytes > current_.size_bytes()) {
    next_ = Buffer(std::max(offsets.bytes, current_.size_bytes() / 2 * 3), device_);
  }
  dispatch(
      "attention.plan", device_, [] {},
      [&] {
        if (!staging_) staging_ = cuda::make_staging(device_.index);
        if (planned.reserved) staging_->reserve(offsets.upload_bytes);
      });
}

void AttentionMetadata::adopt_reserved() {
  if (next_.size_bytes() > current_.size_bytes()) current_ = std::move(next_);
}

void AttentionMetadata::upload(const PlannedAttention& planned,
                               const plan::AttentionPlanner& planner,
                               std::span<const TensorView> kv_indices, Stream stream) {
  adopt_reserved();
  const Offsets offsets = offsets_of(planned);
  auto* base = static_cast<std::byte*>(current_.data());
  const std::size_t host_page_bytes = end_of_host_pages(kv_indices);
  const auto write = [&](std::byte* host) {
    write_host(planned, planner, offsets, host);
    for_each_pages(kv_indices, [&](const TensorView& pages, std::size_t begin, std::size_t bytes) {
      if (pages.device.is_cpu()) std::memcpy(host + offsets.kv_indices + begin, pages.data, bytes);
    });
  };
  dispatch(
      "attention.plan", device_, [&] { write(base); },
      [&] {
        write(staging_->begin(offsets.upload_bytes, stream));
        const UsedRanges used = used_ranges(planned, offsets, host_page_bytes);
        staging_->copy(base, {used.ranges.data(), used.count}, stream);
      });
  for_each_pages(kv_indices, [&](const TensorView& pages, std::size_t begin, std::size_t bytes) {
    if (pages.device.is_cpu()) return;
    copy(base + offsets.kv_indices + begin, device_, pages.data, pages.device, bytes, stream);
  });
  point_to(base, offsets);
  if (kv_indices.empty()) arrays_.kv_indices = nullptr;
  first_bad_ = nullptr;
}

void AttentionMetadata::point_to(std::byte* base, const Offsets& offsets) {
  arrays_.items = at<kernels::WorkItem>(base, offsets.items);
  arrays_.counters = at<kernels::u32>(base, offsets.counters);
  arrays_.worker_indptr = at<kernels::i32>(base, offsets.worker_indptr);
  arrays_.merges = at<kernels::MergeItem>(base, offsets.merges);
  arrays_.merge_count = at<kernels::i32>(base, offsets.merge_count);
  arrays_.qo_indptr = at<kernels::i32>(base, offsets.qo_indptr);
  arrays_.kv_indptr = at<kernels::i32>(base, offsets.kv_indptr);
  arrays_.kv_lens = at<kernels::i32>(base, offsets.kv_lens);
  copy_indptr_ = at<kernels::i32>(base, offsets.copy_indptr);
  arrays_.kv_indices = at<kernels::i32>(base, offsets.kv_indices);
}

kernels::AttentionPlanParams AttentionMetadata::device_plan(const PlannedAttention& planned,
                                                            const DevicePageTable& table) {
  const Offsets o = offsets_of(planned);
  auto* base = static_cast<std::byte*>(current_.data());
  point_to(base, o);
  const bool is_rectangle = table.block_tables.has_value();
  const TensorView& pages = is_rectangle ? *table.block_tables : *table.kv_indices;
  arrays_.kv_indices = static_cast<const kernels::i32*>(pages.data);
  first_bad_ = at<std::int32_t>(base, o.first_bad);
  const AttentionExtent& extent = planned.extent;
  const plan::AttentionProblem problem = planned.problem();
  return {
      .line = plan::line_problem(problem, planned.tile),
      .seq_lens = static_cast<const kernels::i32*>(table.seq_lens.data),
      .page_indptr =
          is_rectangle ? nullptr : static_cast<const kernels::i32*>(table.kv_indptr->data),
      .max_pages = is_rectangle ? static_cast<kernels::i32>(pages.shape[1]) : 0,
      .num_indices = static_cast<kernels::i32>(pages.numel()),
      .page_size = planned.shape.page_size,
      .qo_len = planned.lengths.qo_lens.empty() ? 1 : planned.lengths.qo_lens.front(),
      .max_batch_size = static_cast<kernels::i32>(extent.batch_size),
      .max_items = static_cast<kernels::i32>(extent.num_items),
      .max_merges = static_cast<kernels::i32>(extent.num_merges),
      .max_partial_rows = static_cast<kernels::i32>(extent.num_partial_rows),
      .items = at<kernels::WorkItem>(base, o.items),
      .counters = at<kernels::u32>(base, o.counters),
      .worker_indptr = at<kernels::i32>(base, o.worker_indptr),
      .merges = at<kernels::MergeItem>(base, o.merges),
      .merge_count = at<kernels::i32>(base, o.merge_count),
      .qo_indptr = at<kernels::i32>(base, o.qo_indptr),
      .kv_indptr = at<kernels::i32>(base, o.kv_indptr),
      .kv_lens = at<kernels::i32>(base, o.kv_lens),
      .first_bad = at<kernels::i32>(base, o.first_bad),
      .sums = at<kernels::LineSums>(base, o.sums),
      .loads = at<kernels::i64>(base, o.loads),
      .cuts = at<kernels::LineCut>(base, o.cuts),
      .cut_sums = at<kernels::LineCutSums>(base, o.cut_sums),
      .first_cuts = at<kernels::i32>(base, o.first_cuts),
  };
}

void AttentionMetadata::fill(kernels::AttentionParams& params) const {
  params.items = arrays_.items;
  params.worker_indptr = arrays_.worker_indptr;
  params.merges = arrays_.merges;
  params.merge_count = arrays_.merge_count;
  params.counters = arrays_.counters;
  params.qo_indptr = arrays_.qo_indptr;
  params.kv_indptr = arrays_.kv_indptr;
  params.kv_lens = arrays_.kv_lens;
  params.kv_indices = arrays_.kv_indices;
}

}  // namespace quire
