// Random lives of a pool: after every call it says what the naive pool says, and a cache that is
// written and copied as the pool orders holds every sequence's tokens.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "kv/naive_pool.h"
#include "quire/error.h"

namespace quire::test {
namespace {

// What a caller keeps in the pages: here the token ids themselves.
class PageContents {
 public:
  PageContents(int num_pages, int page_size)
      : page_size_(page_size), slots_(static_cast<std::size_t>(num_pages) * page_size, -1) {}

  void copy(const PageCopy& copy) {
    for (int i = 0; i < copy.num_tokens; ++i) slot(copy.to_page, i) = slot(copy.from_page, i);
  }
  void write(const KvPool& pool, SequenceId id, std::size_t position, std::int32_t token) {
    slot(pool.pages(id)[position / page_size_], static_cast<int>(position % page_size_)) = token;
  }
  Ids read(const KvPool& pool, SequenceId id) {
    Ids tokens;
    for (int i = 0; i < pool.num_tokens(id); ++i) {
      tokens.push_back(slot(pool.pages(id)[i / page_size_], i % page_size_));
    }
    return tokens;
  }

 private:
  std::int32_t& slot(std::int32_t page, int offset) {
    return slots_.at(static_cast<std::size_t>(page) * page_size_ + offset);
  }
  int page_size_;
  std::vector<std::int32_t> slots_;
};

struct Life {
  Life(int num_pages, int page_size)
      : pool(num_pages, page_size), naive(num_pages, page_size), contents(num_pages, page_size) {}

  void append(SequenceId id, const Ids& tokens) {
    const std::size_t begin = naive.tokens(id).size();
    const bool has_room = naive.append(id, tokens);
    try {
      for (const PageCopy& copy : pool.append(id, tokens)) contents.copy(copy);
      RC_ASSERT(has_room);
    } catch (const Error& error) {
      RC_ASSERT(error.code() == ErrorCode::out_of_memory);
      RC_ASSERT(!has_room);
      return;
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      contents.write(pool, id, begin + i, tokens[i]);
    }
  }

  void step(int action, std::size_t which, const Ids& tokens) {
    const std::vector<SequenceId> ids = naive.ids();
    if (action <= 1 || ids.empty()) {
      const SequenceId id = pool.allocate(tokens);
      naive.allocate(id, tokens);
      RC_ASSERT(pool.num_cached_tokens(id) == naive.num_cached_tokens(id));
      append(id, Ids(tokens.begin() + pool.num_cached_tokens(id), tokens.end()));
      return;
    }
    const SequenceId id = ids[which % ids.size()];
    if (action <= 3) return append(id, tokens);
    if (action == 4) return naive.fork(id, pool.fork(id));
    if (action == 5) return pool.cache_prefix(id), naive.cache_prefix(id);
    if (action == 6 && which % 4 == 0) return pool.clear_prefixes(), naive.clear_prefixes();
    const bool keep_prefix = action != 7;
    pool.free(id, keep_prefix);
    naive.free(id, keep_prefix);
  }

  void check() {
    const KvPoolStats got = pool.stats(), expected = naive.stats();
    RC_ASSERT(got.pages_free == expected.pages_free);
    RC_ASSERT(got.pages_in_use == expected.pages_in_use);
    RC_ASSERT(got.pages_cached == expected.pages_cached);
    RC_ASSERT(got.pages_shared == expected.pages_shared);
    RC_ASSERT(got.pages_saved == expected.pages_saved);
    RC_ASSERT(got.prefix_hit_tokens == expected.prefix_hit_tokens);
    RC_ASSERT(got.evictions == expected.evictions);
    for (const SequenceId id : naive.ids()) {
      const int num_tokens = static_cast<int>(naive.tokens(id).size());
      const int page_size = pool.page_size();
      RC_ASSERT(pool.num_tokens(id) == num_tokens);
      RC_ASSERT(contents.read(pool, id) == naive.tokens(id));
      RC_ASSERT(static_cast<int>(pool.pages(id).size()) ==
                (num_tokens + page_size - 1) / page_size);
    }
  }

  KvPool pool;
  NaivePool naive;
  PageContents contents;
};

TEST(KvPoolProperty, behaves_like_the_naive_pool) {
  const bool ok = rc::check("a random life", [] {
    Life life(*rc::gen::inRange(1, 14), *rc::gen::inRange(1, 4));
    // Two token ids and short texts, so that prefixes often coincide.
    const auto tokens = rc::gen::container<Ids>(rc::gen::inRange<std::int32_t>(0, 2));
    const auto step = rc::gen::tuple(rc::gen::inRange(0, 10), rc::gen::inRange<std::size_t>(0, 16),
                                     rc::gen::resize(9, tokens));
    for (const auto& [action, which, ids] :
         *rc::gen::container<std::vector<std::tuple<int, std::size_t, Ids>>>(60, step)) {
      life.step(action, which, ids);
      life.check();
    }
  });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace quire::test
