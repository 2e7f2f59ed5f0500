// Sizes of a plan's arrays as launches see them. For CUDA graphs they are fixed by the first plan.
#pragma once

#include <cstdint>

namespace quire {

struct PlannedAttention;
struct AttentionPlanOptions;

struct AttentionExtent {
  std::int64_t num_items = 0;
  std::int64_t num_merges = 0;
  std::int64_t num_partial_rows = 0;
  std::int64_t num_kv_entries = 0;  // page ids; ragged: tokens
};

// What the plan itself has.
AttentionExtent exact_extent(const PlannedAttention& planned);

// Room for every later plan of the same batch size and rows of q.
AttentionExtent graph_extent(const PlannedAttention& planned, const AttentionPlanOptions& options);

// Throws invalid_argument, naming what does not fit, when `planned` cannot take the place of
// `first`, whose runs may have been captured.
void check_fits_graph(const PlannedAttention& planned, const PlannedAttention& first);

}  // namespace quire
