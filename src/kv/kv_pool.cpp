#include "quire/kv_pool.h"

#include <fmt/format.h>

#include <ranges>
#include <unordered_map>
#include <utility>

#include "core/check.h"
#include "kv/page_store.h"
#include "kv/prefix_tree.h"

namespace quire {

using kv::kNoPage;
using kv::Tokens;

namespace {

struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> pages;
  // The first pages are known to be a path of the prefix tree from its root. Whoever uses a page of
  // the tree uses its parents too, and releases them after it: the oldest cached page is always a
  // leaf, so that eviction never cuts a path in two.
  int num_tree_pages = 0;
  int num_cached_tokens = 0;
};

int at_least_one(std::string_view argument, int value) {
  if (value < 1) check::fail("kv_pool", argument, std::to_string(value), "at least 1");
  return value;
}

}  // namespace

struct KvPool::Impl {
  Impl(int num_pages, int page_size_)
      : page_size(at_least_one("page_size", page_size_)),
        store(at_least_one("num_pages", num_pages)),
        tree(num_pages) {}

  const Sequence& get(std::string_view op, SequenceId id) const {
    const auto found = sequences.find(id);
    if (found == sequences.end()) {
      const bool freed = id >= 0 && id < next_id;
      check::fail(op, "id", fmt::format("{}{}", id, freed ? " (already freed)" : ""),
                  "a sequence of this pool");
    }
    return found->second;
  }
  Sequence& get(std::string_view op, SequenceId id) {
    return const_cast<Sequence&>(std::as_const(*this).get(op, id));
  }

  Tokens page_tokens(Tokens tokens, int page) const {
    return tokens.subspan(static_cast<std::size_t>(page) * page_size, page_size);
  }

  SequenceId add(Sequence sequence) {
    const SequenceId id = next_id;
    const auto& added = sequences.emplace(id, std::move(sequence)).first->second;
    ++next_id;
    for (const std::int32_t page : added.pages) store.add_reference(page);
    return id;
  }

  // Enters full pages into the tree. Where the tree has a page with the same tokens already, the
  // sequence takes that one; not while a fork shares its own, because sequences that share a page
  // must share all pages before it.
  void enter_prefix(Sequence& sequence) {
    const int num_full = static_cast<int>(sequence.tokens.size()) / page_size;
    for (int i = sequence.num_tree_pages; i < num_full; ++i) {
      std::int32_t& page = sequence.pages[i];
      const std::int32_t parent = i == 0 ? kNoPage : sequence.pages[i - 1];
      const Tokens tokens = page_tokens(sequence.tokens, i);
      const std::int32_t cached = tree.find(parent, tokens);
      if (cached == kNoPage) {
        tree.insert(page, parent, tokens);
        store.keep(page);
      } else if (cached != page) {
        if (store.references(page) > 1) return;
        store.add_reference(cached);
        store.release(std::exchange(page, cached));
      }
      sequence.num_tree_pages = i + 1;
    }
  }

  std::int32_t take_page() {
    if (store.num_free() == 0) {
      tree.erase(store.evict_oldest());
      ++evictions;
    }
    return store.take_free();
  }

  int page_size;
  kv::PageStore store;
  kv::PrefixTree tree;
  std::unordered_map<SequenceId, Sequence> sequences;
  SequenceId next_id = 0;
  std::int64_t prefix_hit_tokens = 0;
  std::int64_t evictions = 0;
};

KvPool::KvPool(int num_pages, int page_size) : impl_(new Impl(num_pages, page_size)) {}
KvPool::~KvPool() = default;
KvPool::KvPool(KvPool&&) noexcept = default;
KvPool& KvPool::operator=(KvPool&&) noexcept = default;

SequenceId KvPool::allocate(std::span<const std::int32_t> tokens) {
  Impl& pool = *impl_;
  Sequence sequence;
  const int num_whole = tokens.empty() ? 0 : static_cast<int>((tokens.size() - 1) / pool.page_size);
  std::int32_t page = kNoPage;
  for (int i = 0; i < num_whole; ++i) {
    page = pool.tree.find(page, pool.page_tokens(tokens, i));
    if (page == kNoPage) break;
    sequence.pages.push_back(page);
  }
  sequence.num_tree_pages = static_cast<int>(sequence.pages.size());
  sequence.num_cached_tokens = sequence.num_tree_pages * pool.page_size;
  const auto prefix = tokens.first(sequence.num_cached_tokens);
  sequence.tokens.assign(prefix.begin(), prefix.end());
  const SequenceId id = pool.add(std::move(sequence));
  pool.prefix_hit_tokens += static_cast<std::int64_t>(prefix.size());
  return id;
}

std::vector<PageCopy> KvPool::append(SequenceId id, std::span<const std::int32_t> tokens) {
  Impl& pool = *impl_;
  Sequence& sequence = pool.get("kv_pool.append", id);
  if (tokens.empty()) return {};
  const std::size_t num_tokens = sequence.tokens.size() + tokens.size();
  const std::size_t num_pages = (num_tokens + pool.page_size - 1) / pool.page_size;
  const int used = last_page_len(id);
  const bool copies =
      used > 0 && used < pool.page_size && pool.store.references(sequence.pages.back()) > 1;
  const std::size_t needed = num_pages - sequence.pages.size() + copies;
  const int num_free = pool.store.num_free(), num_evictable = pool.store.num_cached();
  if (needed > static_cast<std::size_t>(num_free) + num_evictable) {
    check::fail(
        "kv_pool.append", "tokens",
        fmt::format("{} tokens that need {} pages", tokens.size(), needed),
        fmt::format("at most {} pages ({} free and {} evictable of {})", num_free + num_evictable,
                    num_free, num_evictable, pool.store.num_pages()),
        ErrorCode::out_of_memory);
  }
  std::vector<PageCopy> page_copies;
  page_copies.reserve(copies);
  sequence.pages.reserve(num_pages);
  sequence.tokens.reserve(num_tokens);
  if (copies) {
    const std::int32_t to_page = pool.take_page();
    const std::int32_t from_page = std::exchange(sequence.pages.back(), to_page);
    pool.store.release(from_page);
    page_copies.push_back({from_page, to_page, used});
  }
  while (sequence.pages.size() < num_pages) sequence.pages.push_back(pool.take_page());
  sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
  return page_copies;
}

SequenceId KvPool::fork(SequenceId id) { return impl_->add(impl_->get("kv_pool.fork", id)); }

void KvPool::free(SequenceId id, bool keep_prefix) {
  Impl& pool = *impl_;
  Sequence& sequence = pool.get("kv_pool.free", id);
  if (keep_prefix) pool.enter_prefix(sequence);
  // From the end, so that the pages of a cached prefix are evicted after those that follow it.
  for (const std::int32_t page : sequence.pages | std::views::reverse) pool.store.release(page);
  pool.sequences.erase(id);
}

void KvPool::cache_prefix(SequenceId id) {
  impl_->enter_prefix(impl_->get("kv_pool.cache_prefix", id));
}

void KvPool::clear_prefixes() {
  while (impl_->store.num_cached() > 0) impl_->tree.erase(impl_->store.evict_oldest());
}

int KvPool::page_size() const { return impl_->page_size; }

int KvPool::num_tokens(SequenceId id) const {
  return static_cast<int>(impl_->get("kv_pool.num_tokens", id).tokens.size());
}

int KvPool::num_cached_tokens(SequenceId id) const {
  return impl_->get("kv_pool.num_cached_tokens", id).num_cached_tokens;
}

std::span<const std::int32_t> KvPool::pages(SequenceId id) const {
  return impl_->get("kv_pool.pages", id).pages;
}

int KvPool::last_page_len(SequenceId id) const {
  const auto& tokens = impl_->get("kv_pool.last_page_len", id).tokens;
  return tokens.empty() ? 0 : static_cast<int>((tokens.size() - 1) % impl_->page_size) + 1;
}

KvPoolStats KvPool::stats() const {
  const kv::PageStore& store = impl_->store;
  return {.num_pages = store.num_pages(),
          .pages_free = store.num_free(),
          .pages_in_use = store.num_in_use(),
          .pages_cached = store.num_cached(),
          .pages_shared = store.num_shared(),
          .pages_saved = store.num_references() - store.num_in_use(),
          .prefix_hit_tokens = impl_->prefix_hit_tokens,
          .evictions = impl_->evictions};
}

KvPool::Table KvPool::table(std::span<const SequenceId> ids) const {
  Table table;
  table.indptr.push_back(0);
  for (const SequenceId id : ids) {
    const Sequence& sequence = impl_->get("kv_pool.table", id);
    table.indices.insert(table.indices.end(), sequence.pages.begin(), sequence.pages.end());
    table.indptr.push_back(static_cast<std::int32_t>(table.indices.size()));
    table.last_page_len.push_back(last_page_len(id));
  }
  return table;
}

}  // namespace quire
