// What reserve() has fixed for all plans to come, and the sizes of a plan's arrays.
#pragma once

#include <cstdint>

#include "attention/attention_types.h"
#include "plan/attention.h"
#include "quire/attention.h"

namespace quire {

struct AttentionLengths;
struct PlannedAttention;

// Sizes of a plan's arrays as launches see them: the plan's own, or those that are reserved.
struct AttentionExtent {
  std::int64_t num_items = 0;
  std::int64_t num_merges = 0;
  std::int64_t num_partial_rows = 0;
  std::int64_t num_kv_entries = 0;  // page ids; ragged: tokens
  std::int64_t batch_size = 0;
  std::int64_t num_copied_tokens = 0;  // of which K and V are copied before attention
};

struct ReservedAttention {
  AttentionShape shape;
  AttentionReservation limits;
  AttentionPlanOptions options;  // what the caller gave, hints included
  kernels::AttentionConfig config;
  plan::AttentionTile tile;
  AttentionExtent extent;
};

// Throws invalid_argument for sizes that are not sizes.
void check_reservation(const AttentionReservation& reservation);

// Room for every plan within the limits. Throws invalid_argument when a count exceeds 32 bits.
AttentionExtent reserved_extent(const ReservedAttention& reserved);

// Throws invalid_argument, naming what differs, for a plan that is not of the reservation's kind.
void check_reserved_kind(const AttentionShape& shape, const AttentionPlanOptions& options,
                         const ReservedAttention& reserved);

// Throw invalid_argument, naming what is too large.
void check_batch_fits(std::int64_t batch_size, const ReservedAttention& reserved);
void check_fits_reservation(const AttentionLengths& lengths, const plan::AttentionPlanSize& size,
                            const ReservedAttention& reserved);

}  // namespace quire
