#include "quire/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/check.h"
#include "cpu/attention.h"
#include "cuda/attention.h"
#include "cuda/staging.h"
#include "ops/attention_arguments.h"
#include "ops/attention_device_table.h"
#include "ops/attention_metadata.h"
#include "ops/attention_plan.h"

namespace quire {
namespace {

constexpr std::size_t kWorkspaceAlignment = 16;

void check_workspace(const TensorView& workspace, Device device) {
  constexpr const char* kOp = "attention.set_workspace";
  const check::Arg arg{kOp, "workspace", workspace};
  check::rank(arg, 1);
  check::dtype(arg, {DType::u8});
  check::contiguous(arg);
  check::memory(arg);
  if (workspace.device != device) {
    check::fail(kOp, "workspace", to_string(workspace.device), to_string(device));
  }
  if (reinterpret_cast<std::uintptr_t>(workspace.data) % kWorkspaceAlignment != 0) {
    check::fail(kOp, "workspace", fmt::format("address {}", fmt::ptr(workspace.data)),
                "an address aligned to 16 bytes");
  }
}

void check_workspace_bytes(const TensorView& workspace, const AttentionExtent& extent,
                           const AttentionShape& shape, const char* op) {
  const std::size_t needed = workspace_of(extent, shape).bytes;
  if (static_cast<std::size_t>(workspace.shape[0]) >= needed) return;
  check::fail(op, "workspace", fmt::format("{} bytes", workspace.shape[0]),
              fmt::format("at least {} bytes: {} partial rows of split KV, {} floats each", needed,
                          extent.num_partial_rows, shape.head_dim_vo + 1),
              ErrorCode::out_of_memory);
}

[[noreturn]] void fail_checked(const char* op) {
  check::fail(op, "checked", "true on a stream that captures a CUDA graph",
              "false: the check waits for the device", ErrorCode::not_implemented);
}

}  // namespace

struct BatchAttention::Impl {
  explicit Impl(Device d) : context{.device = d}, metadata(d) {}

  Device device() const { return context.device; }
  const PlannedAttention* in_force() const { return has_plan ? &current : nullptr; }

  // Memory to take the place of own_workspace, where that is too small; checks the workspace.
  std::optional<Buffer> larger_workspace(const AttentionExtent& extent, const AttentionShape& shape,
                                         const char* op) const {
    const std::size_t bytes = workspace_of(extent, shape).bytes;
    if (workspace) {
      check_workspace_bytes(*workspace, extent, shape, op);
    } else if (bytes > own_workspace.size_bytes()) {
      return Buffer(bytes, device());
    }
    return std::nullopt;
  }
  void take_workspace(std::optional<Buffer> larger) {
    if (larger) own_workspace = std::move(*larger);
    memory = static_cast<std::byte*>(workspace ? workspace->data : own_workspace.data());
  }

  void reserve(const AttentionShape& shape, const AttentionReservation& limits,
               const AttentionPlanOptions& options) {
    constexpr const char* kOp = "attention.reserve";
    if (captured) {
      check::fail(kOp, "reservation", "another one after a captured run",
                  "none: a CUDA graph holds the addresses of the last one");
    }
    ReservedAttention reserved = make_reservation(context, shape, limits, options);
    PlannedAttention largest;
    largest.shape = shape;
    largest.tile = reserved.tile;
    largest.extent = reserved.extent;
    largest.reserved = true;
    std::optional<Buffer> larger = larger_workspace(reserved.extent, shape, kOp);
    if (shape.page_size > 0) {
      dispatch(kOp, device(), [] {}, [&] { cuda::prepare_attention_plan(device().index); });
    }
    metadata.reserve(largest);
    metadata.adopt_reserved();
    take_workspace(std::move(larger));
    context.reserved = std::move(reserved);
    has_plan = false;
  }

  // Whether `stream` captures: then a plan must not need memory that moves, from then on. Outside a
  // graph it must leave page ids where captured runs that have no plan with them in the graph read
  // them: in `table`, or, null, in memory of the engine.
  bool check_capture(const char* op, Stream stream, const void* table) const {
    if (is_capturing(stream)) {
      if (!context.reserved) {
        check::fail(op, "stream", "one that captures a CUDA graph", "a call of reserve() before");
      }
      captured = true;
      return true;
    }
    if (captured_table && *captured_table != table) {
      check::fail(op, "table", table ? "page ids on the device" : "page ids of plan()",
                  *captured_table ? "the table on the device that a captured run reads"
                                  : "page ids of plan(), which a captured run reads");
    }
    return false;
  }
  // The ids of a page table that the plan reads.
  TensorView used_pages(const PageTable& table) const {
    const TensorView& indptr = table.indptr;
    const auto* ends = static_cast<const std::int32_t*>(indptr.data);
    return table.indices.slice(0, 0, ends[indptr.shape[0] - 1]);
  }
  bool is_capturing(Stream stream) const {
    bool capturing = false;
    dispatch(
        "attention", device(), [] {},
        [&] { capturing = cuda::is_capturing(device().index, stream); });
    return capturing;
  }

  // `next` has been planned.
  void adopt(std::span<const TensorView> kv_indices, Stream stream) {
    if (!context.reserved) {
      // Everything that can fail comes before the first change.
      std::optional<Buffer> larger = larger_workspace(next.extent, next.shape, "attention.plan");
      metadata.reserve(next);
      metadata.upload(next, context.planner, kv_indices, stream);
      take_workspace(std::move(larger));
    } else {
      metadata.upload(next, context.planner, kv_indices, stream);
    }
    std::swap(current, next);
    has_plan = true;
  }

  // prepare(options) makes `next` and gives back the page ids that it reads. Where there is no
  // memory for a copy of K and V the plan is one without.
  template <class Prepare>
  void plan(const AttentionPlanOptions& options, const Prepare& prepare, Stream stream) {
    const bool capturing = check_capture("attention.plan", stream, nullptr);
    const auto try_with = [&](const AttentionPlanOptions& o) {
      const auto pages = prepare(o);
      next.captured = capturing;
      adopt(pages, stream);
    };
    try {
      try_with(options);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory || next.copy_indptr.empty()) throw;
      AttentionPlanOptions without = options;
      without.max_copy_bytes = 0;
      try_with(without);
    }
  }

  void plan_on_device(const AttentionShape& shape, int qo_len, const DevicePageTable& table,
                      const AttentionPlanOptions& options, Stream stream) {
    constexpr const char* kOp = "attention.plan_on_device";
    if (!context.reserved) {
      check::fail(kOp, "reservation", "none", "a call of reserve() before");
    }
    if (shape.page_size < 1) {
      check::fail(kOp, "page_size", fmt::format("{}", shape.page_size), "1 or more");
    }
    if (qo_len < 1) check::fail(kOp, "qo_len", fmt::format("{}", qo_len), "1 or more");
    const DeviceTableSize size = check_device_table(table, device());
    plan_for_device(context, shape, size, qo_len, options, next);
    if (device().is_cpu()) {
      HostTable host = read_table(table, qo_len, shape.page_size);
      const PageTable pages = host.view();
      plan_paged(context, shape, host.qo_view(), pages, options, next);
      adopt({{used_pages(pages)}}, stream);
      return;
    }
    const void* pages = table.block_tables ? table.block_tables->data : table.kv_indices->data;
    next.captured = check_capture(kOp, stream, pages);
    if (next.captured && next.checked) fail_checked(kOp);
    dispatch(
        kOp, device(), [] {},
        [&] { cuda::attention_plan(device().index, metadata.device_plan(next, table), stream); });
    std::swap(current, next);
    has_plan = true;
    if (current.checked) check_plan(stream);
  }

  void check_plan(Stream stream) const {
    if (!has_plan || !current.on_device) return;
    std::int32_t bad = kernels::kNoBadRequest;
    copy(&bad, kCpu, metadata.first_bad(), device(), sizeof(bad), stream);
    if (bad == kernels::kNoBadRequest) return;
    check::fail("attention.plan_on_device", "seq_lens",
                fmt::format("a length that does not fit at [{}]", bad),
                "0 to what the request's pages, and what is reserved, hold");
  }

  void run(const AttentionArguments& args, bool paged, Stream stream) const {
    constexpr const char* kOp = "attention.run";
    if (!has_plan) check::fail(kOp, "plan", "none", "a call of plan() before");
    if (paged != (current.shape.page_size > 0)) {
      check::fail(kOp, "kv", paged ? "a paged pool" : "ragged k and v",
                  paged ? "ragged k and v, as planned" : "a paged pool, as planned");
    }
    check_arguments(args, current, device());
    const bool checks_pages = current.checked && paged;
    if (device().is_cuda() && (current.reserved || checks_pages) && is_capturing(stream)) {
      if (checks_pages) fail_checked(kOp);
      captured = true;
      if (!current.captured) captured_table = metadata.table(current);
    }
    kernels::AttentionParams params = fill_params(args, current);
    metadata.fill(params);
    params.partial_o = reinterpret_cast<float*>(memory);
    params.partial_lse =
        params.partial_o + std::int64_t{params.num_partial_rows} * current.shape.head_dim_vo;
    dispatch(
        kOp, device(),
        [&] {
          // On the CPU launches need not stay as they are.
          params.num_items = static_cast<kernels::i32>(current.size.num_items);
          params.num_merges = static_cast<kernels::i32>(current.size.num_merges);
          cpu::attention(current.config, params);
        },
        [&] {
          if (checks_pages) check_device_pages(params, stream);
          cuda::attention(device().index,
                          {.config = current.config,
                           .few = current.few,
                           .num_few_workers = current.size.num_few_workers,
                           .two = current.tile.few.two,
                           .aligned = rows_aligned(args),
                           .copy = copy_of_kv(),
                           .variant = current.custom()},
                          params, stream);
        });
  }

  // What run() copies first.
  std::optional<cuda::KvCopy> copy_of_kv() const {
    if (current.copy_indptr.empty()) return std::nullopt;
    const AttentionWorkspace at = workspace_of(current.extent, current.shape);
    return cuda::KvCopy{.kv_dtype = check::to_kernel(current.shape.kv_dtype),
                        .token_indptr = metadata.copy_indptr(),
                        .num_tokens = static_cast<kernels::i32>(current.extent.num_copied_tokens),
                        .k = memory + at.copied_k,
                        .v = memory + at.copied_v};
  }

  void check_device_pages(const kernels::AttentionParams& params, Stream stream) const {
    const std::int64_t at = cuda::first_bad_page(device().index, params, stream);
    if (at < 0) return;
    check::fail("attention.run", "kv_indices",
                fmt::format("a bad page id at [{}] ({})", at, owner_of_page(params, at)),
                fmt::format("0 or more and below {}, the num_pages of k", params.num_pages));
  }

  // Whose page entry `at` of kv_indices is.
  std::string owner_of_page(const kernels::AttentionParams& params, std::int64_t at) const {
    if (!current.on_device) return current.lengths.owner_of_entry(at);
    std::vector<std::int32_t> begins(current.lengths.qo_lens.size());
    copy(begins.data(), kCpu, params.kv_indptr, device(), begins.size() * sizeof(std::int32_t));
    return current.lengths.owner(std::ranges::upper_bound(begins, at) - begins.begin() - 1);
  }

  std::optional<TensorView> workspace;
  PlanningContext context;
  PlannedAttention current, next;  // next: scratch of plan(), so that a failed one changes nothing
  bool has_plan = false;
  AttentionMetadata metadata;
  Buffer own_workspace;
  std::byte* memory = nullptr;  // of the current plan: the workspace or own_workspace
  mutable std::atomic<bool> captured = false;  // a plan or run on reserved memory
  // Where the last captured run reads page ids: see check_capture().
  mutable std::optional<const void*> captured_table;
};

BatchAttention::BatchAttention(Device device) : impl_(std::make_unique<Impl>(device)) {}
BatchAttention::~BatchAttention() = default;
BatchAttention::BatchAttention(BatchAttention&&) noexcept = default;
BatchAttention& BatchAttention::operator=(BatchAttention&&) noexcept = default;

void BatchAttention::set_workspace(std::optional<TensorView> workspace) {
  if (workspace) check_workspace(*workspace, impl_->device());
  if (impl_->context.reserved) {
    check::fail("attention.set_workspace", "workspace", "one after reserve()",
                "a call before reserve(): its addresses stay");
  }
  impl_->context.workspace_bytes.reset();
  if (workspace) impl_->context.workspace_bytes = static_cast<std::size_t>(workspace->shape[0]);
  impl_->workspace = std::move(workspace);
}

void BatchAttention::reserve(const AttentionShape& shape, const AttentionReservation& reservation,
                             const AttentionPlanOptions& options) {
  impl_->reserve(shape, reservation, options);
}

void BatchAttention::plan(const AttentionShape& shape, const TensorView& qo_indptr,
                          const PageTable& table, const AttentionPlanOptions& options,
                          Stream stream) {
  impl_->plan(
      options,
      [&](const AttentionPlanOptions& o) {
        plan_paged(impl_->context, shape, qo_indptr, table, o, impl_->next);
        return std::array{impl_->used_pages(table)};
      },
      stream);
}

void BatchAttention::plan(const AttentionShape& shape, const TensorView& qo_indptr,
                          const TensorView& kv_indptr, const AttentionPlanOptions& options,
                          Stream stream) {
  impl_->plan(
      options,
      [&](const AttentionPlanOptions& o) {
        plan_ragged(impl_->context, shape, qo_indptr, kv_indptr, o, impl_->next);
        return std::array<TensorView, 0>{};
      },
      stream);
}

void BatchAttention::plan_cascade(const AttentionShape& shape, std::span<const CascadeLevel> levels,
                                  const AttentionPlanOptions& options, Stream stream) {
  if (levels.size() == 1) return plan(shape, levels[0].qo_indptr, levels[0].table, options, stream);
  const bool captured = impl_->check_capture("attention.plan_cascade", stream, nullptr);
  quire::plan_cascade(impl_->context, shape, levels, options, impl_->next);
  impl_->next.captured = captured;
  std::vector<TensorView> pages;
  for (const CascadeLevel& level : levels) pages.push_back(impl_->used_pages(level.table));
  impl_->adopt(pages, stream);
}

void BatchAttention::plan_on_device(const AttentionShape& shape, int qo_len,
                                    const DevicePageTable& table,
                                    const AttentionPlanOptions& options, Stream stream) {
  impl_->plan_on_device(shape, qo_len, table, options, stream);
}

void BatchAttention::check_plan(Stream stream) const { impl_->check_plan(stream); }

void BatchAttention::run(const TensorView& q, const PagedKv& kv, const TensorView& out,
                         const std::optional<TensorView>& lse, const AttentionOptions& options,
                         Stream stream) const {
  impl_->run({q, kv.k, kv.v, kv.layout, out, lse, options}, /*paged=*/true, stream);
}

void BatchAttention::run(const TensorView& q, const TensorView& k, const TensorView& v,
                         const TensorView& out, const std::optional<TensorView>& lse,
                         const AttentionOptions& options, Stream stream) const {
  const KvLayout layout = impl_->in_force() ? impl_->current.shape.layout : KvLayout::nhd;
  impl_->run({q, k, v, layout, out, lse, options}, /*paged=*/false, stream);
}

std::size_t BatchAttention::workspace_bytes() const {
  const Impl& impl = *impl_;
  if (impl.context.reserved) {
    return workspace_of(impl.context.reserved->extent, impl.context.reserved->shape).bytes;
  }
  return impl.has_plan ? workspace_of(impl.current.extent, impl.current.shape).bytes : 0;
}

}  // namespace quire
