// Host half of planning batch attention: checked shape, chosen tile, work list. No uploads.
#pragma once

#include <cstdint>
#include <optional>

#include "attention/attention_types.h"
#include "ops/attention_extent.h"
#include "ops/attention_lengths.h"
#include "plan/attention.h"
#include "quire/attention.h"

namespace quire {

struct PlannedAttention {
  AttentionShape shape;
  kernels::AttentionConfig config;
  AttentionLengths lengths;
  plan::AttentionTile tile;
  plan::AttentionPlan work;
  AttentionExtent extent;
  std::optional<AttentionVariant> variant;
  int fixed_split_size = 0;  // 0: the planner decides
  bool checked = false;
  bool cuda_graph = false;
  std::int64_t max_total_q = 0;  // rows of q of the first plan for CUDA graphs

  const AttentionVariant* custom() const { return variant ? &*variant : nullptr; }
  std::size_t partial_bytes() const {
    return static_cast<std::size_t>(extent.num_partial_rows) * (shape.head_dim_vo + 1) *
           sizeof(float);
  }
};

// Same errors as BatchAttention::plan, except those of the workspace. `current`: the plan in force,
// or null; one for CUDA graphs hands its tile and extent on to the next.
PlannedAttention plan_paged(Device device, const AttentionShape& shape, const TensorView& qo_indptr,
                            const PageTable& table, const AttentionPlanOptions& options,
                            const PlannedAttention* current = nullptr);
PlannedAttention plan_ragged(Device device, const AttentionShape& shape,
                             const TensorView& qo_indptr, const TensorView& kv_indptr,
                             const AttentionPlanOptions& options,
                             const PlannedAttention* current = nullptr);

}  // namespace quire
