// Angles of rotary position embedding: checks of the options, frequencies, positions.
#pragma once

#include "core/check.h"
#include "quire/rope.h"
#include "rope/rope_types.h"

namespace quire {

// Checks the options for heads of head_dim and fills in p's rotary_dim, and frequencies or cache.
void set_angles(const check::Arg& q, std::int64_t head_dim, const RopeOptions& options,
                kernels::RopeParams& p, kernels::RopeConfig& config);

// Checks positions of `q`'s tokens and fills them in. After set_angles.
void set_positions(const check::Arg& q, const check::Arg& pos_ids, kernels::RopeParams& p,
                   kernels::RopeConfig& config);
void set_ragged_positions(const check::Arg& q, const check::Arg& indptr, const check::Arg& offsets,
                          kernels::RopeParams& p, kernels::RopeConfig& config);

}  // namespace quire
