// Speculative sampling of chains: keeps draft tokens up to the first that is rejected and draws one
// token more.
//
// Grid:   c.cluster blocks a request
// Block:  c.threads
// Smem:   row_memory_bytes + kSearchBytes
// Output: ids, -1 behind the token that is drawn; accepted and emitted are added to
// Needs:  sm_90 for clusters, else any GPU
#pragma once

#include "sampling/draw_token.h"
#include "speculative/speculative_types.h"

namespace quire::kernels {

inline bool is_probability_row(u32 largest) { return largest != 0 && largest < kNotAProbability; }

template <RowConfig c>
void chain_speculative(const ChainParams& p) {
  const i64 request = tile::block_index() / c.cluster;
  const ChainStep step = walk_chain(p, request);
  const i32 position = step.num_accepted;
  const float* target =
      p.target_probs + request * p.target_batch_stride + position * p.target_row_stride;
  ClusterRow<c> row(target, 0, p.vocab, kSearchBytes);
  if (position < p.drafts) {
    row.subtrahend = p.draft_probs + request * p.draft_batch_stride + position * p.draft_row_stride;
  }
  u32 largest = row.read();
  if (largest == 0 && row.subtrahend != nullptr) {
    // Rounding alone has rejected: the distributions are the same.
    row.subtrahend = nullptr;
    largest = row.read();
  }
  i32* ids = p.ids + request * p.ids_stride;
  if (row.is_leader() && tile::thread_index() == 0) {
    for (i32 i = 0; i < position; ++i) ids[i] = p.draft_ids[request * p.draft_ids_stride + i];
    for (i32 i = position + 1; i <= p.drafts; ++i) ids[i] = -1;
    if (!is_probability_row(largest)) ids[position] = -1;
    if (p.accepted != nullptr) p.accepted[request * p.accepted_stride] += step.independent;
    if (p.emitted != nullptr) p.emitted[request * p.emitted_stride] += position;
  }
  if (is_probability_row(largest)) {
    tile::sync_diverged_block();
    draw_token(row, kKeepAll, chain_random(p, request, p.drafts),
               [&](i32 id, u64, u64) { ids[position] = id; });
  }
  row.finish();
}

}  // namespace quire::kernels
