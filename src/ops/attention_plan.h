// Host half of planning batch attention: checked shape, chosen tile, work list. No uploads.
#pragma once

#include <cstdint>

#include "attention/attention_types.h"
#include "ops/attention_lengths.h"
#include "plan/attention.h"
#include "quire/attention.h"

namespace quire {

struct PlannedAttention {
  AttentionShape shape;
  kernels::AttentionConfig config;
  AttentionLengths lengths;
  plan::AttentionPlan work;
  bool checked = false;

  std::size_t partial_bytes() const { return work.partial_bytes(shape.head_dim_vo); }
};

// Same errors as BatchAttention::plan, except those of the workspace.
PlannedAttention plan_paged(Device device, const AttentionShape& shape, const TensorView& qo_indptr,
                            const PageTable& table, const AttentionPlanOptions& options);
PlannedAttention plan_ragged(Device device, const AttentionShape& shape,
                             const TensorView& qo_indptr, const TensorView& kv_indptr,
                             const AttentionPlanOptions& options);

}  // namespace quire
