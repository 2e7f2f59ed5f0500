// The order in which work begins, so that items that share K and V run at the same time.
#pragma once

#include <cstdint>
#include <span>

#include "plan/kv_split.h"

namespace quire::plan {

struct CacheOrder {
  std::span<const RowTile> tiles;
  int num_kv_heads;
  std::int64_t cached_tokens;  // as AttentionTile
};

// Orders split.jobs longest first, in sections whose K and V fit the cache: requests with many row
// tiles, a few KV heads at a time where one request is too much. Requests whose K and V nobody
// shares come in a last section, where the short ones even out the workers. May divide a job's
// heads among several jobs.
void order_for_cache(KvSplit& split, const CacheOrder& order);

}  // namespace quire::plan
