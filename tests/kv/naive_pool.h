// What KvPool promises, with linear searches: pages know their whole prefix, nothing is indexed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "quire/kv_pool.h"

namespace quire::test {

using Ids = std::vector<std::int32_t>;

class NaivePool {
 public:
  NaivePool(int num_pages, int page_size) : num_pages_(num_pages), page_size_(page_size) {}

  void allocate(SequenceId id, const Ids& tokens) {
    Sequence sequence;
    for (std::size_t end = page_size_; end < tokens.size(); end += page_size_) {
      const PagePtr page = cached_page(Ids(tokens.begin(), tokens.begin() + end));
      if (!page) break;
      sequence.tokens = page->prefix;
      sequence.pages.push_back(page);
    }
    sequence.num_cached = static_cast<int>(sequence.tokens.size());
    prefix_hit_tokens_ += sequence.num_cached;
    sequences_[id] = sequence;
  }

  // Whether there was room; without it nothing changes.
  bool append(SequenceId id, const Ids& tokens) {
    Sequence& sequence = sequences_.at(id);
    const int used = static_cast<int>(sequence.tokens.size()) % page_size_;
    const bool copies = !tokens.empty() && used > 0 && references(sequence.pages.back()) > 1;
    const int pages_after =
        static_cast<int>(sequence.tokens.size() + tokens.size() + page_size_ - 1) / page_size_;
    const int needed = pages_after - static_cast<int>(sequence.pages.size()) + copies;
    const KvPoolStats now = stats();
    if (needed > now.pages_free + now.pages_cached) return false;
    for (int i = now.pages_free; i < needed; ++i) evict();
    if (copies) sequence.pages.back() = std::make_shared<Page>();
    while (static_cast<int>(sequence.pages.size()) < pages_after) {
      sequence.pages.push_back(std::make_shared<Page>());
    }
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    return true;
  }

  void fork(SequenceId from, SequenceId id) {
    const Sequence copy = sequences_.at(from);
    sequences_[id] = copy;
  }

  void cache_prefix(SequenceId id) {
    Sequence& sequence = sequences_.at(id);
    for (std::size_t end = page_size_; end <= sequence.tokens.size(); end += page_size_) {
      PagePtr& page = sequence.pages[end / page_size_ - 1];
      const Ids prefix(sequence.tokens.begin(), sequence.tokens.begin() + end);
      if (const PagePtr cached = cached_page(prefix)) {
        if (cached != page && references(page) > 1) return;
        page = cached;
      } else {
        page->prefix = prefix;
        cached_.push_back(page);
      }
    }
  }

  void free(SequenceId id, bool keep_prefix) {
    if (keep_prefix) cache_prefix(id);
    const Sequence sequence = sequences_.at(id);
    sequences_.erase(id);
    for (auto page = sequence.pages.rbegin(); page != sequence.pages.rend(); ++page) {
      if (references(*page) == 0) (*page)->released_at = ++clock_;
    }
  }

  void clear_prefixes() {
    std::erase_if(cached_, [&](const PagePtr& page) { return references(page) == 0; });
  }

  const Ids& tokens(SequenceId id) const { return sequences_.at(id).tokens; }
  int num_cached_tokens(SequenceId id) const { return sequences_.at(id).num_cached; }
  std::vector<SequenceId> ids() const {
    std::vector<SequenceId> ids;
    for (const auto& [id, sequence] : sequences_) ids.push_back(id);
    return ids;
  }

  KvPoolStats stats() const {
    std::map<PagePtr, int> counts;
    for (const auto& [id, sequence] : sequences_) {
      for (const PagePtr& page : sequence.pages) ++counts[page];
    }
    KvPoolStats stats{.num_pages = num_pages_,
                      .pages_in_use = static_cast<int>(counts.size()),
                      .prefix_hit_tokens = prefix_hit_tokens_,
                      .evictions = evictions_};
    for (const auto& [page, count] : counts) {
      stats.pages_shared += count > 1;
      stats.pages_saved += count - 1;
    }
    for (const PagePtr& page : cached_) stats.pages_cached += !counts.contains(page);
    stats.pages_free = num_pages_ - stats.pages_in_use - stats.pages_cached;
    return stats;
  }

 private:
  struct Page {
    Ids prefix;  // of a cached page
    int released_at = 0;
  };
  using PagePtr = std::shared_ptr<Page>;
  struct Sequence {
    Ids tokens;
    std::vector<PagePtr> pages;
    int num_cached = 0;
  };

  PagePtr cached_page(const Ids& prefix) const {
    const auto found =
        std::ranges::find_if(cached_, [&](const PagePtr& page) { return page->prefix == prefix; });
    return found == cached_.end() ? nullptr : *found;
  }

  int references(const PagePtr& page) const {
    int count = 0;
    for (const auto& [id, sequence] : sequences_) {
      count += static_cast<int>(std::ranges::count(sequence.pages, page));
    }
    return count;
  }

  bool is_leaf(const PagePtr& page) const {
    return std::ranges::none_of(cached_, [&](const PagePtr& other) {
      return other->prefix.size() > page->prefix.size() &&
             std::equal(page->prefix.begin(), page->prefix.end(), other->prefix.begin());
    });
  }

  void evict() {
    PagePtr oldest;
    for (const PagePtr& page : cached_) {
      if (references(page) > 0 || !is_leaf(page)) continue;
      if (!oldest || page->released_at < oldest->released_at) oldest = page;
    }
    std::erase(cached_, oldest);
    ++evictions_;
  }

  int num_pages_, page_size_;
  std::map<SequenceId, Sequence> sequences_;
  std::vector<PagePtr> cached_;
  int clock_ = 0;
  std::int64_t prefix_hit_tokens_ = 0;
  std::int64_t evictions_ = 0;
};

}  // namespace quire::test
