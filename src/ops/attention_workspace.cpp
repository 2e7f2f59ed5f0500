// Bytes of workspace, without planning on a device.
#include "ops/attention_plan.h"
#include "quire/attention.h"

namespace quire {
namespace {

// plan(context, planned) makes a plan of `shape`.
template <class Plan>
std::size_t planned_bytes(Device device, const AttentionShape& shape, const Plan& plan) {
  PlanningContext context{.device = device};
  PlannedAttention planned;
  plan(context, planned);
  return workspace_of(planned.extent, shape).bytes;
}

}  // namespace

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const PageTable& table,
                                      const AttentionPlanOptions& options) {
  return planned_bytes(device, shape, [&](PlanningContext& context, PlannedAttention& planned) {
    plan_paged(context, shape, qo_indptr, table, options, planned);
  });
}

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const TensorView& qo_indptr, const TensorView& kv_indptr,
                                      const AttentionPlanOptions& options) {
  return planned_bytes(device, shape, [&](PlanningContext& context, PlannedAttention& planned) {
    plan_ragged(context, shape, qo_indptr, kv_indptr, options, planned);
  });
}

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      std::span<const CascadeLevel> levels,
                                      const AttentionPlanOptions& options) {
  if (levels.size() == 1) {
    return attention_workspace_bytes(device, shape, levels[0].qo_indptr, levels[0].table, options);
  }
  return planned_bytes(device, shape, [&](PlanningContext& context, PlannedAttention& planned) {
    plan_cascade(context, shape, levels, options, planned);
  });
}

std::size_t attention_workspace_bytes(Device device, const AttentionShape& shape,
                                      const AttentionReservation& reservation,
                                      const AttentionPlanOptions& options) {
  PlanningContext context{.device = device};
  return workspace_of(make_reservation(context, shape, reservation, options).extent, shape).bytes;
}

}  // namespace quire
