// Checking the arguments of one run against the plan and turning them into kernel parameters.
#pragma once

#include <optional>

#include "attention/attention_types.h"
#include "ops/attention_plan.h"
#include "quire/attention.h"

namespace quire {

// k and v of a run: a paged pool, or ragged tensors.
struct AttentionArguments {
  const TensorView& q;
  const TensorView& k;
  const TensorView& v;
  KvLayout layout;
  const TensorView& out;
  const std::optional<TensorView>& lse;
  const AttentionOptions& options;
};

// Throws invalid_argument or wrong_type for everything that does not match.
void check_arguments(const AttentionArguments& args, const PlannedAttention& planned,
                     Device device);

// Everything but the plan's arrays and the partial results.
kernels::AttentionParams fill_params(const AttentionArguments& args,
                                     const PlannedAttention& planned);

// True when every row of q, k, v and out starts at a multiple of 16 bytes.
bool rows_aligned(const AttentionArguments& args);

}  // namespace quire
