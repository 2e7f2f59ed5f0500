#include "emulator/product_queue.h"

#include <algorithm>

#include "emulator/warpgroup_products.h"
#include "tile/math.h"

namespace quire::emulator {

void ProductQueue::clear() {
  entries_.clear();
  captured_.clear();
  handed_back_.clear();
  fenced_ = false;
  read_entry_ = 0;
  read_chunk_ = 0;
}

bool ProductQueue::is_pending(const float* d) const {
  return std::ranges::any_of(
      entries_, [d](const QueuedProduct& e) { return !e.is_commit && e.product.d == d; });
}

std::size_t ProductQueue::num_covered(int pending) const {
  const auto groups = std::ranges::count_if(entries_, &QueuedProduct::is_commit);
  auto left = groups - pending;
  std::size_t i = 0;
  while (left > 0) left -= entries_[i++].is_commit ? 1 : 0;
  return i;
}

const char* ProductQueue::problem(const Product& product) const {
  if (!fenced_) return "no wgmma::fence() before the first product";
  for (const QueuedProduct& e : entries_) {
    if (!e.is_commit && e.product.d == product.d && e.product.n != product.n) {
      return "its accumulators are those of an unfinished product of another shape";
    }
  }
  if (!product.accumulate || is_pending(product.d)) return nullptr;
  for (const HandedBack& old : handed_back_) {
    if (old.d != product.d) continue;
    for (std::size_t i = 0; i < old.values.size(); ++i) {
      if (tile::float_bits(old.values[i]) != tile::float_bits(product.d[i])) {
        return "its accumulators were changed and no wgmma::fence() came after";
      }
    }
  }
  return nullptr;
}

void ProductQueue::issue(const Product& product, u64 proxy_fence, Site site) {
  QueuedProduct entry{.product = product, .site = site, .proxy_fence = proxy_fence};
  if (product.a != nullptr) {
    for (int i = 0; i < 4; ++i) entry.a[i] = product.a[i];
  }
  if (product.accumulate && !is_pending(product.d)) {
    entry.has_captured = true;
    entry.captured = captured_.size();
    captured_.insert(captured_.end(), product.d, product.d + product.n / 2);
  }
  entries_.push_back(entry);
}

void ProductQueue::commit(Site site) { entries_.push_back({.site = site, .is_commit = true}); }

void ProductQueue::fence() {
  fenced_ = true;
  handed_back_.clear();
}

void ProductQueue::finish(std::size_t count) {
  std::vector<QueuedProduct> done(entries_.begin(),
                                  entries_.begin() + static_cast<std::ptrdiff_t>(count));
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(count));
  if (entries_.empty()) captured_.clear();
  for (const QueuedProduct& e : done) {
    if (e.is_commit || is_pending(e.product.d)) continue;
    std::erase_if(handed_back_, [&](const HandedBack& old) { return old.d == e.product.d; });
    handed_back_.push_back({e.product.d, {e.product.d, e.product.d + e.product.n / 2}});
  }
}

namespace {

// Chunk `index` of those a product reads for a warp: its 16 rows of A, then all of B.
bool chunk_of(const Product& p, int warp, int index, std::size_t& offset) {
  OperandLayout layout;
  const int in_a = p.a == nullptr ? 32 : 0;
  if (index < in_a) {
    if (decode_descriptor(p.a_descriptor, false, kProductRows, layout) != nullptr) return false;
    offset = layout.chunk_k_major(16 * warp + index / 2, index % 2 * 16);
    return true;
  }
  index -= in_a;
  if (index >= 2 * p.n) return false;
  if (decode_descriptor(p.b_descriptor, p.transpose_b, p.n, layout) != nullptr) return false;
  const int in_row = p.n / 8;
  offset = p.transpose_b ? layout.chunk_transposed(index / in_row, index % in_row * 8)
                         : layout.chunk_k_major(index / 2, index % 2 * 16);
  return true;
}

}  // namespace

bool ProductQueue::next_read(int pending, int warp, std::size_t& offset) {
  for (const std::size_t end = num_covered(pending); read_entry_ < end; ++read_entry_) {
    const QueuedProduct& entry = entries_[read_entry_];
    if (!entry.is_commit && chunk_of(entry.product, warp, read_chunk_, offset)) {
      ++read_chunk_;
      return true;
    }
    read_chunk_ = 0;
  }
  read_entry_ = 0;
  return false;
}

}  // namespace quire::emulator
