#include "quire/attention.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/backend.h"
#include "core/check.h"
#include "cpu/attention.h"
#include "cuda/attention.h"
#include "ops/attention_arguments.h"
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

void check_workspace_bytes(const TensorView& workspace, const PlannedAttention& planned) {
  const std::size_t needed = planned.partial_bytes();
  if (static_cast<std::size_t>(workspace.shape[0]) >= needed) return;
  check::fail("attention.plan", "workspace", fmt::format("{} bytes", workspace.shape[0]),
              fmt::format("at least {} bytes: {} partial rows of split KV, {} floats each", needed,
                          planned.extent.num_partial_rows, planned.shape.head_dim_vo + 1),
              ErrorCode::out_of_memory);
}

}  // namespace

struct BatchAttention::Impl {
  explicit Impl(Device d) : device(d) {}

  // Everything that can fail comes before the first change.
  void adopt(PlannedAttention planned, const TensorView* kv_indices, Stream stream) {
    const std::size_t bytes = planned.partial_bytes();
    std::optional<Buffer> larger;
    if (workspace) {
      check_workspace_bytes(*workspace, planned);
    } else if (bytes > own_partials.size_bytes()) {
      larger.emplace(bytes, device);
    }
    metadata.reserve(planned, device);
    metadata.upload(planned, kv_indices, stream);
    if (larger) own_partials = std::move(*larger);
    partials = static_cast<float*>(workspace ? workspace->data : own_partials.data());
    current = std::move(planned);
  }

  void run(const AttentionArguments& args, bool paged, Stream stream) const {
    constexpr const char* kOp = "attention.run";
    if (!current) check::fail(kOp, "plan", "none", "a call of plan() before");
    if (paged != (current->shape.page_size > 0)) {
      check::fail(kOp, "kv", paged ? "a paged pool" : "ragged k and v",
                  paged ? "ragged k and v, as planned" : "a paged pool, as planned");
    }
    check_arguments(args, *current, device);
    kernels::AttentionParams params = fill_params(args, *current);
    metadata.fill(params);
    params.partial_o = partials;
    params.partial_lse =
        partials + std::int64_t{params.num_partial_rows} * current->shape.head_dim_vo;
    dispatch(
        kOp, device, [&] { cpu::attention(current->config, params); },
        [&] {
          if (current->checked && paged) check_device_pages(params, stream);
          cuda::attention(device.index, current->config, rows_aligned(args), current->custom(),
                          params, stream);
        });
  }

  void check_device_pages(const kernels::AttentionParams& params, Stream stream) const {
    const std::int64_t at = cuda::first_bad_page(device.index, params.kv_indices,
                                                 params.num_indices, params.num_pages, stream);
    if (at < 0) return;
    check::fail("attention.run", "kv_indices",
                fmt::format("a bad page id at [{}] (request {})", at,
                            current->lengths.request_of_entry(at)),
                fmt::format("0 or more and below {}, the num_pages of k", params.num_pages));
  }

  const PlannedAttention* in_force() const { return current ? &*current : nullptr; }

  Device device;
  std::optional<TensorView> workspace;
  std::optional<PlannedAttention> current;
  AttentionMetadata metadata;
  Buffer own_partials;
  float* partials = nullptr;  // of the current plan: in the workspace or in own_partials
};

BatchAttention::BatchAttention(Device device) : impl_(std::make_unique<Impl>(device)) {}
BatchAttention::~BatchAttention() = default;
BatchAttention::BatchAttention(BatchAttention&&) noexcept = default;
BatchAttention& BatchAttention::operator=(BatchAttention&&) noexcept = default;

void BatchAttention::set_workspace(std::optional<TensorView> workspace) {
  if (workspace) check_workspace(*workspace, impl_->device);
  impl_->workspace = std::move(workspace);
}

void BatchAttention::plan(const AttentionShape& shape, const TensorView& qo_indptr,
                          const PageTable& table, const AttentionPlanOptions& options,
                          Stream stream) {
  impl_->adopt(plan_paged(impl_->device, shape, qo_indptr, table, options, impl_->in_force()),
               &table.indices, stream);
}

void BatchAttention::plan(const AttentionShape& shape, const TensorView& qo_indptr,
                          const TensorView& kv_indptr, const AttentionPlanOptions& options,
                          Stream stream) {
  impl_->adopt(plan_ragged(impl_->device, shape, qo_indptr, kv_indptr, options, impl_->in_force()),
               nullptr, stream);
}

void BatchAttention::run(const TensorView& q, const PagedKv& kv, const TensorView& out,
                         const std::optional<TensorView>& lse, const AttentionOptions& options,
                         Stream stream) const {
  impl_->run({q, kv.k, kv.v, kv.layout, out, lse, options}, /*paged=*/true, stream);
}

void BatchAttention::run(const TensorView& q, const TensorView& k, const TensorView& v,
                         const TensorView& out, const std::optional<TensorView>& lse,
                         const AttentionOptions& options, Stream stream) const {
  const KvLayout layout = impl_->current ? impl_->current->shape.layout : KvLayout::nhd;
  impl_->run({q, k, v, layout, out, lse, options}, /*paged=*/false, stream);
}

std::size_t BatchAttention::workspace_bytes() const {
  return impl_->current ? impl_->current->partial_bytes() : 0;
}

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const PageTable& table,
                                      const AttentionPlanOptions& options) {
  return plan_paged(device, shape, qo_indptr, table, options).partial_bytes();
}

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const TensorView& kv_indptr,
                                      const AttentionPlanOptions& options) {
  return plan_ragged(device, shape, qo_indptr, kv_indptr, options).partial_bytes();
}

}  // namespace quire
