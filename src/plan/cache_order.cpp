#include "plan/cache_order.h"

#include <algorithm>

namespace quire::plan {
namespace {

// Row tiles of a request from which on it is worth keeping its K and V in the cache.
constexpr std::size_t kTilesThatShare = 4;
// Items a worker that the last section has at least: its short ones fill what is left open between
// the workers, and longest first over one section of few heads leaves much.
constexpr std::int64_t kItemsToEvenOut = 2;

}  // namespace

void CacheSections::find_requests(std::span<const RowTile> tiles) {
  requests_.clear();
  for (std::size_t begin = 0, end; begin < tiles.size(); begin = end) {
    end = begin + 1;
    while (end < tiles.size() && tiles[end].request == tiles[begin].request) ++end;
    requests_.push_back({begin, end, tiles[begin].kv_len});
  }
}

// `heads` of a request's jobs join the current section.
void CacheSections::add(std::span<const Job> jobs, int first_head, int heads) {
  for (Job job : jobs) {
    job.first = first_head;
    job.copies = heads;
    ordered_.push_back(job);
  }
}

void CacheSections::close(Balancer& balancer) {
  balancer.sort_by_cost_descending(std::span(ordered_).subspan(section_begin_));
  section_begin_ = ordered_.size();
  filled_ = 0;
}

void CacheSections::add_sharing(const Request& request, std::span<const Job> jobs,
                                const CacheOrder& order, Balancer& balancer) {
  const std::int64_t most =
      std::max<std::int64_t>(1, order.cached_tokens / std::max<std::int64_t>(1, request.kv_len));
  const int heads = static_cast<int>(std::min<std::int64_t>(most, order.num_kv_heads));
  for (int first = 0; first < order.num_kv_heads; first += heads) {
    const int count = std::min(heads, order.num_kv_heads - first);
    const std::int64_t tokens = request.kv_len * count;
    if (filled_ > 0 && filled_ + tokens > order.cached_tokens &&
        items_left_ >= kItemsToEvenOut * order.num_workers) {
      close(balancer);
    }
    add(jobs, first, count);
    filled_ += tokens;
    items_left_ -= static_cast<std::int64_t>(jobs.size()) * count;
  }
}

void CacheSections::order(KvSplit& split, const CacheOrder& order, Balancer& balancer) {
  const auto shares = [](const Request& r) { return r.end - r.begin >= kTilesThatShare; };
  find_requests(order.tiles);
  std::int64_t shared_tokens = 0;
  for (const Request& r : requests_) {
    if (shares(r)) shared_tokens += r.kv_len * order.num_kv_heads;
  }
  if (order.cached_tokens == 0 || shared_tokens <= order.cached_tokens) {
    balancer.sort_by_cost_descending(split.jobs);
    return;
  }
  // First job of each tile: jobs stand in the order of tiles, num_parts each.
  first_job_.assign(order.tiles.size() + 1, 0);
  for (std::size_t t = 0; t < order.tiles.size(); ++t) {
    first_job_[t + 1] = first_job_[t] + static_cast<std::size_t>(split.num_parts[t]);
  }
  const auto jobs_of = [&](const Request& r) {
    return std::span<const Job>(split.jobs)
        .subspan(first_job_[r.begin], first_job_[r.end] - first_job_[r.begin]);
  };
  ordered_.clear();
  section_begin_ = 0;
  filled_ = 0;
  items_left_ = static_cast<std::int64_t>(split.parts.size()) * order.num_kv_heads;
  for (const Request& r : requests_) {
    if (shares(r)) add_sharing(r, jobs_of(r), order, balancer);
  }
  close(balancer);
  for (const Request& r : requests_) {
    if (!shares(r)) add(jobs_of(r), 0, order.num_kv_heads);
  }
  close(balancer);
  split.jobs.swap(ordered_);
}

}  // namespace quire::plan
