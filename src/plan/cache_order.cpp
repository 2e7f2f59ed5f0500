#include "plan/cache_order.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace quire::plan {
namespace {

// Row tiles of a request from which on it is worth keeping its K and V in the cache.
constexpr std::size_t kTilesThatShare = 4;

// Tiles [begin, end) of one request.
struct Request {
  std::size_t begin, end;
  std::int64_t kv_len;
  bool shares() const { return end - begin >= kTilesThatShare; }
};

std::vector<Request> requests_of(std::span<const RowTile> tiles) {
  std::vector<Request> requests;
  for (std::size_t begin = 0, end; begin < tiles.size(); begin = end) {
    end = begin + 1;
    while (end < tiles.size() && tiles[end].request == tiles[begin].request) ++end;
    requests.push_back({begin, end, tiles[begin].kv_len});
  }
  return requests;
}

class Sections {
 public:
  Sections(const CacheOrder& order, std::vector<Job>& ordered) : order_(order), ordered_(ordered) {}

  // `heads` of a request's jobs join the current section.
  void add(std::span<const Job> jobs, int first_head, int heads) {
    for (Job job : jobs) {
      job.first = first_head;
      job.copies = heads;
      ordered_.push_back(job);
    }
  }
  void close() {
    sort_by_cost_descending(std::span(ordered_).subspan(section_begin_));
    section_begin_ = ordered_.size();
    filled_ = 0;
  }
  void add_sharing(const Request& request, std::span<const Job> jobs) {
    const std::int64_t most =
        std::max<std::int64_t>(1, order_.cached_tokens / std::max<std::int64_t>(1, request.kv_len));
    const int heads = static_cast<int>(std::min<std::int64_t>(most, order_.num_kv_heads));
    for (int first = 0; first < order_.num_kv_heads; first += heads) {
      const int count = std::min(heads, order_.num_kv_heads - first);
      const std::int64_t tokens = request.kv_len * count;
      if (filled_ > 0 && filled_ + tokens > order_.cached_tokens) close();
      add(jobs, first, count);
      filled_ += tokens;
    }
  }

 private:
  const CacheOrder& order_;
  std::vector<Job>& ordered_;
  std::size_t section_begin_ = 0;
  std::int64_t filled_ = 0;  // tokens of one head
};

}  // namespace

void order_for_cache(KvSplit& split, const CacheOrder& order) {
  const std::vector<Request> requests = requests_of(order.tiles);
  std::int64_t shared_tokens = 0;
  for (const Request& r : requests) {
    if (r.shares()) shared_tokens += r.kv_len * order.num_kv_heads;
  }
  if (order.cached_tokens == 0 || shared_tokens <= order.cached_tokens) {
    sort_by_cost_descending(split.jobs);
    return;
  }
  // First job of each tile: jobs stand in the order of tiles, num_parts each.
  std::vector<std::size_t> first_job(order.tiles.size() + 1, 0);
  for (std::size_t t = 0; t < order.tiles.size(); ++t) {
    first_job[t + 1] = first_job[t] + static_cast<std::size_t>(split.num_parts[t]);
  }
  const auto jobs_of = [&](const Request& r) {
    return std::span<const Job>(split.jobs)
        .subspan(first_job[r.begin], first_job[r.end] - first_job[r.begin]);
  };
  std::vector<Job> ordered;
  ordered.reserve(split.jobs.size());
  Sections sections(order, ordered);
  for (const Request& r : requests) {
    if (r.shares()) sections.add_sharing(r, jobs_of(r));
  }
  sections.close();
  for (const Request& r : requests) {
    if (!r.shares()) sections.add(jobs_of(r), 0, order.num_kv_heads);
  }
  sections.close();
  split.jobs = std::move(ordered);
}

}  // namespace quire::plan
