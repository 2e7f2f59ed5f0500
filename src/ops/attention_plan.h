// Host half of planning batch attention: checked shape, chosen tile, sizes of the work list. No
// uploads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "attention/attention_types.h"
#include "ops/attention_device_table.h"
#include "ops/attention_lengths.h"
#include "ops/attention_reservation.h"
#include "ops/attention_target.h"
#include "plan/planner.h"
#include "quire/attention.h"

namespace quire {

struct PlannedAttention {
  AttentionShape shape;
  AttentionPlanOptions options;
  kernels::AttentionConfig config, few;
  AttentionLengths lengths;  // after planning on the device: only total_q, in the last qo_indptr
  plan::AttentionTile tile;
  plan::AttentionPlanSize size;
  AttentionExtent extent;
  std::vector<std::int32_t> copy_indptr;  // [batch + 1], of extent.num_copied_tokens; empty: none
  bool checked = false;
  bool reserved = false;         // extent is the reservation's
  bool captured = false;         // made on a stream that captures a CUDA graph
  bool on_device = false;        // lengths, work list and page ids are the device's
  std::int64_t num_indices = 0;  // page ids that kernels may read
  std::int64_t max_total_q = 0;  // rows that q may have

  const AttentionVariant* custom() const { return options.variant ? &*options.variant : nullptr; }
  // Reads lengths: not longer than they live.
  plan::AttentionProblem problem() const;
};

// Where things are in the workspace, in bytes: partial results first, then the copies of K and V.
struct AttentionWorkspace {
  std::size_t copied_k = 0, copied_v = 0, bytes = 0;
};
AttentionWorkspace workspace_of(const AttentionExtent& extent, const AttentionShape& shape);

// What plans need beside their arguments, and keep for the next.
struct PlanningContext {
  Device device;
  AttentionTargets targets;
  plan::AttentionPlanner planner;
  std::optional<ReservedAttention> reserved;
  std::optional<std::size_t> workspace_bytes;  // of a workspace that is given
};

// Same errors as BatchAttention::plan, except those of the workspace. The planner is ready to write
// what `planned` describes. Nothing is allocated that an earlier plan of this size has allocated.
void plan_paged(PlanningContext& context, const AttentionShape& shape, const TensorView& qo_indptr,
                const PageTable& table, const AttentionPlanOptions& options,
                PlannedAttention& planned);
void plan_ragged(PlanningContext& context, const AttentionShape& shape, const TensorView& qo_indptr,
                 const TensorView& kv_indptr, const AttentionPlanOptions& options,
                 PlannedAttention& planned);
void plan_cascade(PlanningContext& context, const AttentionShape& shape,
                  std::span<const CascadeLevel> levels, const AttentionPlanOptions& options,
                  PlannedAttention& planned);

// Chooses kernel and tile, compiles, computes the sizes. Same errors as BatchAttention::reserve.
ReservedAttention make_reservation(PlanningContext& context, const AttentionShape& shape,
                                   const AttentionReservation& limits,
                                   const AttentionPlanOptions& options);

// A plan that the device makes, with qo_len rows of q for each request. Checks all but the table's
// contents.
void plan_for_device(const PlanningContext& context, const AttentionShape& shape,
                     const DeviceTableSize& size, int qo_len, const AttentionPlanOptions& options,
                     PlannedAttention& planned);

}  // namespace quire
