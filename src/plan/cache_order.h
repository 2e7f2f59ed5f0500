// The order in which work begins, so that items that share K and V run at the same time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/kv_split.h"

namespace quire::plan {

struct CacheOrder {
  std::span<const RowTile> tiles;
  int num_kv_heads;
  int num_workers;             // as AttentionTile
  std::int64_t cached_tokens;  // as AttentionTile
};

// Keeps what it has allocated.
class CacheSections {
 public:
  // Orders split.jobs longest first, in sections whose K and V fit the cache: requests with many
  // row tiles, a few KV heads at a time where one request is too much. The last of them has enough
  // items to even out the workers, more than the cache holds if it must. Requests whose K and V
  // nobody shares come in a section after that. May divide a job's heads among several jobs.
  void order(KvSplit& split, const CacheOrder& order, Balancer& balancer);

 private:
  // Tiles [begin, end) of one request.
  struct Request {
    std::size_t begin, end;
    std::int64_t kv_len;
  };
  void find_requests(std::span<const RowTile> tiles);
  void add(std::span<const Job> jobs, int first_head, int heads);
  void close(Balancer& balancer);
  void add_sharing(const Request& request, std::span<const Job> jobs, const CacheOrder& order,
                   Balancer& balancer);

  std::vector<Request> requests_;
  std::vector<std::size_t> first_job_;
  std::vector<Job> ordered_;
  std::size_t section_begin_ = 0;
  std::int64_t filled_ = 0;      // tokens of one head
  std::int64_t items_left_ = 0;  // that are in no section yet
};

}  // namespace quire::plan
