// Pure planning of batch attention: lengths in, work list out. No globals, no clocks, no CUDA.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_types.h"

namespace quire::plan {

struct AttentionProblem {
  std::span<const std::int32_t> qo_lens;  // [batch]
  std::span<const std::int32_t> kv_lens;  // [batch]
  int group_size = 1;
  int num_kv_heads = 1;
  bool causal = false;  // balance hints; coverage does not depend on them
  int window_left = -1;
  int fixed_split_size = 0;  // tokens, 0: free
  bool disable_split_kv = false;
  // [levels] of a cascade, else empty: the first request of each level. The requests of all levels
  // but the last are groups; every level has the same rows of q, from the first on.
  std::span<const std::int32_t> first_requests = {};

  int num_levels() const {
    return first_requests.empty() ? 1 : static_cast<int>(first_requests.size());
  }
  bool is_group(std::int32_t request) const {
    return !first_requests.empty() && request < first_requests.back();
  }
};

// How two kernels do a batch of prompts and single tokens: at once, each on some of the workers, or
// one after the other on all.
enum class TwoKernels : std::uint8_t { at_once, few_first, few_last };

// The tile of a second kernel, for requests of at most tile_q packed rows, which merges itself; 0:
// there is none.
struct FewRowsTile {
  int tile_q = 0;
  int tile_kv = 64;
  TwoKernels two = TwoKernels::at_once;
  // For both at once: what a worker takes for a token, while others are at the first kernel's
  // items, in what it takes for a token of one of those.
  double token_cost = 1;
  int many_start = 0;       // what the start and end of one of those cost, in tokens
  double most_workers = 1;  // the share of all from which on more make it no faster
};

// What the planner must know of the device and of the kernel's tile.
struct AttentionTile {
  int num_workers = 1;  // persistent thread blocks, or CPU threads
  int tile_q = 64;      // packed rows
  int tile_kv = 64;     // tokens; split points are multiples of it
  // Tokens of one KV head whose K and V stay in the device's cache together; 0: no matter.
  std::int64_t cached_tokens = 0;
  // The kernel joins the parts of split tiles, and writes rows without KV: these are items too, and
  // there are no MergeItems.
  bool merges_itself = false;
  // Of the workers of a kernel that waits for memory, how many keep it busy; 0: all.
  int memory_workers = 0;
  int cut_cost =
      0;  // what splitting tiles takes longer, in tokens; 0: an item's start and a merge's
  // In batches of prompts and single tokens both kernels may run, each with workers of its own.
  FewRowsTile few = {};
};

struct AttentionPlanSize {
  std::int64_t num_items = 0;
  std::int64_t num_merges = 0;
  std::int64_t num_partial_rows = 0;
  // The last of the workers, whose items are those of the second kernel, and have no MergeItems.
  std::int32_t num_few_workers = 0;
};

// All workers of a plan.
inline int plan_workers(const AttentionTile& tile, const AttentionPlanSize& size) {
  return tile.num_workers + (tile.few.two == TwoKernels::at_once ? 0 : size.num_few_workers);
}

// Room for a plan of known size.
struct AttentionPlanArrays {
  kernels::WorkItem* items = nullptr;     // [num_items]
  std::int32_t* worker_indptr = nullptr;  // [plan_workers + 1]
  kernels::MergeItem* merges = nullptr;   // [num_merges]
};

struct AttentionPlan {
  std::vector<kernels::WorkItem> items;     // grouped by worker
  std::vector<std::int32_t> worker_indptr;  // [plan_workers + 1]
  std::vector<kernels::MergeItem> merges;
  std::int32_t num_partial_rows = 0;
  std::int32_t num_few_workers = 0;  // as in AttentionPlanSize

  std::size_t partial_bytes(int head_dim_vo) const {
    return static_cast<std::size_t>(num_partial_rows) * (head_dim_vo + 1) * sizeof(float);
  }
};

// Every (packed row, kv token) of every request and KV head is covered by exactly one item, rows
// without KV by MergeItems with no parts, or by an empty item where the kernel merges itself (which
// it does not do in a cascade).
// Deterministic: same numbers in, same list out. No worker's load is more than the mean and the
// cost of the longest item, and three steps and the partial rows of two parts where requests of one
// tile each are cut. Throws Error when a count exceeds 32 bits. AttentionPlanner does the
// same into given memory.
AttentionPlan plan_attention(const AttentionProblem& problem, const AttentionTile& tile);

// The estimated cost of an item, in steps of tile_kv tokens; what the balance is measured in.
double item_cost(const kernels::WorkItem& item, const AttentionProblem& problem,
                 const AttentionTile& tile);

}  // namespace quire::plan
