// The pages of a pool: reference counts, the free list, and the cached pages in eviction order.
#pragma once

#include <cstdint>
#include <vector>

namespace quire::kv {

inline constexpr std::int32_t kNoPage = -1;

// A page is free, in use (referenced by sequences), or cached (kept only for its content). A page
// may be marked as kept while it is in use; it then becomes cached, not free, with its last
// reference. Cached pages leave in the order in which they were released. All calls are O(1).
class PageStore {
 public:
  explicit PageStore(int num_pages);

  std::int32_t take_free();               // needs num_free() > 0; one reference
  void add_reference(std::int32_t page);  // in use or cached
  void release(std::int32_t page);        // drops one reference
  void keep(std::int32_t page) { pages_[page].kept = true; }
  std::int32_t evict_oldest();  // needs num_cached() > 0; the page becomes free

  int references(std::int32_t page) const { return pages_[page].references; }
  int num_pages() const { return static_cast<int>(pages_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_cached() const { return num_cached_; }
  int num_in_use() const { return num_pages() - num_free() - num_cached_; }
  int num_shared() const { return num_shared_; }
  std::int64_t num_references() const { return num_references_; }

 private:
  struct Page {
    int references = 0;
    bool kept = false;
    // Neighbours in the list of cached pages.
    std::int32_t older = kNoPage;
    std::int32_t newer = kNoPage;
  };

  void link_newest(std::int32_t page);
  void unlink(std::int32_t page);

  std::vector<Page> pages_;
  std::vector<std::int32_t> free_;
  std::int32_t oldest_ = kNoPage;
  std::int32_t newest_ = kNoPage;
  int num_cached_ = 0;
  int num_shared_ = 0;
  std::int64_t num_references_ = 0;
};

}  // namespace quire::kv
