// Finding what the requests of a batch share: the levels of BatchAttention::plan_cascade() from
// page tables in which shared tokens are shared pages, as those of KvPool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quire/attention.h"
#include "quire/kv_pool.h"

namespace quire {

struct CascadeTable {
  std::vector<std::int32_t> qo_indptr;  // [groups + 1]
  KvPool::Table table;                  // of the groups

  // For plan_cascade(); not longer than this lives.
  CascadeLevel view();
};

struct CascadeSearch {
  int min_shared_tokens = 256;  // a group shares at least as many; 1 or more
  int max_levels = 2;           // with the requests' own; 1 or more
};

// First to last: levels of groups, as many as there are, and the requests with the rest of their
// pages. A group is the longest run of neighbouring requests (in later levels: of one group) of
// which each shares min_shared_tokens with the next, in whole pages; it gets the pages that all of
// them share. A request keeps the tokens of its own rows, its last ones, so that the result of a
// causal run is that of plan() with `table`. Only neighbours are compared: let requests that share
// stand together.
// table: of the requests; qo_indptr: [batch + 1], their rows of q. Throws invalid_argument where
// they do not fit each other.
std::vector<CascadeTable> find_cascade(std::span<const std::int32_t> qo_indptr,
                                       const KvPool::Table& table, int page_size,
                                       const CascadeSearch& search = {});

// attention.plan_cascade() with the levels that find_cascade() finds; they are those of the pool's
// radix tree, whose nodes are the pages that requests share. Throws as both.
void plan_cascade(BatchAttention& attention, const AttentionShape& shape,
                  std::span<const std::int32_t> qo_indptr, const KvPool::Table& table,
                  const AttentionPlanOptions& options = {}, const CascadeSearch& search = {},
                  Stream stream = {});

}  // namespace quire
