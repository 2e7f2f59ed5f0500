#include "kv/page_store.h"

#include <numeric>
#include <utility>

namespace quire::kv {

PageStore::PageStore(int num_pages) : pages_(num_pages), free_(num_pages) {
  // Taken from the back: low page ids first.
  std::iota(free_.rbegin(), free_.rend(), 0);
}

std::int32_t PageStore::take_free() {
  const std::int32_t page = free_.back();
  free_.pop_back();
  pages_[page].references = 1;
  ++num_references_;
  return page;
}

void PageStore::add_reference(std::int32_t page) {
  const int before = pages_[page].references++;
  ++num_references_;
  if (before == 0) unlink(page);
  if (before == 1) ++num_shared_;
}

void PageStore::release(std::int32_t page) {
  const int after = --pages_[page].references;
  --num_references_;
  if (after == 1) --num_shared_;
  if (after > 0) return;
  if (pages_[page].kept) {
    link_newest(page);
  } else {
    free_.push_back(page);  // within the capacity of construction: cannot throw
  }
}

std::int32_t PageStore::evict_oldest() {
  const std::int32_t page = oldest_;
  unlink(page);
  pages_[page].kept = false;
  free_.push_back(page);
  return page;
}

void PageStore::link_newest(std::int32_t page) {
  pages_[page].older = newest_;
  pages_[page].newer = kNoPage;
  (newest_ == kNoPage ? oldest_ : pages_[newest_].newer) = page;
  newest_ = page;
  ++num_cached_;
}

void PageStore::unlink(std::int32_t page) {
  const auto [older, newer] = std::pair(pages_[page].older, pages_[page].newer);
  (older == kNoPage ? oldest_ : pages_[older].newer) = newer;
  (newer == kNoPage ? newest_ : pages_[newer].older) = older;
  --num_cached_;
}

}  // namespace quire::kv
