// The levels that find_cascade() makes of page tables.
#include "quire/cascade.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "support/expect_error.h"

namespace quire::test {
namespace {

using Ints = std::vector<std::int32_t>;

int group_with(const CascadeTable& level, int row) {
  const auto after = std::ranges::upper_bound(level.qo_indptr, row);
  return static_cast<int>(after - level.qo_indptr.begin()) - 1;
}

Ints pages_of(const KvPool::Table& table, int request) {
  const auto r = static_cast<std::size_t>(request);
  return {table.indices.begin() + table.indptr[r], table.indices.begin() + table.indptr[r + 1]};
}

struct Batch {
  Ints qo_indptr{0};
  KvPool::Table table{{0}, {}, {}};
  int page_size = 4;

  int batch_size() const { return static_cast<int>(qo_indptr.size()) - 1; }
  void add(int qo_len, const Ints& pages, int last_page_len) {
    qo_indptr.push_back(qo_indptr.back() + qo_len);
    table.indices.insert(table.indices.end(), pages.begin(), pages.end());
    table.indptr.push_back(static_cast<std::int32_t>(table.indices.size()));
    table.last_page_len.push_back(pages.empty() ? 0 : last_page_len);
  }
};

// Requests that walk down a tree of pages and leave it somewhere.
Batch any_batch() {
  Batch batch;
  batch.page_size = *rc::gen::element(1, 4);
  const int requests = *rc::gen::inRange(0, 14), depth = *rc::gen::element(2, 6, 20);
  std::int32_t fresh = 1000;
  Ints path(static_cast<std::size_t>(depth));
  for (int r = 0; r < requests; ++r) {
    const auto kept = *rc::gen::inRange(0, depth + 1);
    for (int i = kept; i < depth; ++i) path[static_cast<std::size_t>(i)] = fresh++;
    const int length = *rc::gen::inRange(0, depth + 1);
    batch.add(*rc::gen::inRange(1, 6), Ints(path.begin(), path.begin() + length),
              *rc::gen::inRange(1, batch.page_size + 1));
  }
  return batch;
}

RC_GTEST_PROP(Cascade, PagesOfTheLevelsAreThoseOfTheRequest, ()) {
  const Batch batch = any_batch();
  const CascadeSearch search{.min_shared_tokens = *rc::gen::inRange(1, 20),
                             .max_levels = *rc::gen::inRange(1, 5)};
  const std::vector<CascadeTable> levels =
      find_cascade(batch.qo_indptr, batch.table, batch.page_size, search);
  RC_ASSERT(!levels.empty() && static_cast<int>(levels.size()) <= search.max_levels);
  RC_ASSERT(levels.back().qo_indptr == batch.qo_indptr);
  for (int r = 0; r < batch.batch_size(); ++r) {
    Ints joined;
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const bool is_own = l + 1 == levels.size();
      const int group = is_own ? r : group_with(levels[l], batch.qo_indptr[r]);
      const Ints pages = pages_of(levels[l].table, group);
      const int last = levels[l].table.last_page_len[static_cast<std::size_t>(group)];
      joined.insert(joined.end(), pages.begin(), pages.end());
      if (!is_own) {
        RC_ASSERT(last == (pages.empty() ? 0 : batch.page_size));
        const int tokens = static_cast<int>(pages.size()) * batch.page_size;
        RC_ASSERT(pages.empty() || tokens >= search.min_shared_tokens);
      } else if (!pages.empty()) {
        RC_ASSERT(last == batch.table.last_page_len[static_cast<std::size_t>(r)]);
        // What its rows are of stays with it, where it has as much.
        const auto all = pages_of(batch.table, r);
        const int own = static_cast<int>(pages.size() - 1) * batch.page_size + last;
        RC_ASSERT(own >= batch.qo_indptr[r + 1] - batch.qo_indptr[r] || pages == all);
      }
    }
    RC_ASSERT(joined == pages_of(batch.table, r));
  }
  // Groups are runs of those of the next level.
  for (std::size_t l = 0; l + 1 < levels.size(); ++l) {
    RC_ASSERT(std::ranges::includes(levels[l + 1].qo_indptr, levels[l].qo_indptr));
  }
}

// Neighbours that stay apart do not share enough, in the only level that there is.
RC_GTEST_PROP(Cascade, RunsAreMaximal, ()) {
  const Batch batch = any_batch();
  const CascadeSearch search{.min_shared_tokens = *rc::gen::inRange(1, 20)};
  const auto levels = find_cascade(batch.qo_indptr, batch.table, batch.page_size, search);
  for (int r = 0; r + 1 < batch.batch_size(); ++r) {
    const bool together = levels.size() == 2 && group_with(levels[0], batch.qo_indptr[r]) ==
                                                    group_with(levels[0], batch.qo_indptr[r + 1]);
    const Ints a = pages_of(batch.table, r), b = pages_of(batch.table, r + 1);
    const auto shareable = [&](const Ints& pages, int request) {
      const auto i = static_cast<std::size_t>(request);
      const int full = static_cast<int>(pages.size()) * batch.page_size;
      const int kv_len = pages.empty() ? 0 : full - batch.page_size + batch.table.last_page_len[i];
      return std::max(0, kv_len - (batch.qo_indptr[i + 1] - batch.qo_indptr[i])) / batch.page_size;
    };
    int same = 0;
    const int most = std::min(shareable(a, r), shareable(b, r + 1));
    while (same < most && a[static_cast<std::size_t>(same)] == b[static_cast<std::size_t>(same)]) {
      ++same;
    }
    RC_ASSERT(together == (same * batch.page_size >= search.min_shared_tokens));
  }
}

TEST(Cascade, OfAPoolWithAPrefixInCommon) {
  KvPool pool(64, 4);
  Ints prompt(24);
  std::iota(prompt.begin(), prompt.end(), 0);
  const SequenceId first = pool.allocate();
  pool.append(first, prompt);
  pool.cache_prefix(first);
  std::vector<SequenceId> ids{first};
  for (int i = 0; i < 3; ++i) {
    Ints tokens(prompt.begin(), prompt.begin() + 17);  // four pages and one token more
    tokens.push_back(100 + i);
    ids.push_back(pool.allocate(tokens));
    pool.append(ids.back(), std::span(tokens).subspan(
                                static_cast<std::size_t>(pool.num_cached_tokens(ids.back()))));
  }
  const SequenceId other = pool.allocate();
  pool.append(other, Ints{7, 8, 9});
  ids.push_back(other);
  const auto levels =
      find_cascade(Ints{0, 1, 2, 3, 4, 5}, pool.table(ids), 4, {.min_shared_tokens = 10});
  ASSERT_EQ(levels.size(), 2u);
  EXPECT_EQ(levels[0].qo_indptr, (Ints{0, 4, 5}));
  EXPECT_EQ(levels[0].table.indptr, (Ints{0, 4, 4}));
  EXPECT_EQ(levels[0].table.last_page_len, (Ints{4, 0}));
  EXPECT_EQ(levels[1].table.indptr, (Ints{0, 2, 3, 4, 5, 6}));
  EXPECT_EQ(levels[1].table.last_page_len, (Ints{4, 2, 2, 2, 3}));
}

TEST(Cascade, LevelsAsDeepAsTheTree) {
  Batch batch;
  batch.add(1, {1, 2, 3, 4, 10}, 1);
  batch.add(1, {1, 2, 3, 4, 11}, 1);
  batch.add(1, {1, 2, 5, 6, 12}, 1);
  batch.add(1, {1, 2, 5, 6, 13}, 1);
  const auto levels =
      find_cascade(batch.qo_indptr, batch.table, 4, {.min_shared_tokens = 8, .max_levels = 9});
  ASSERT_EQ(levels.size(), 3u);
  EXPECT_EQ(levels[0].table.indices, (Ints{1, 2}));
  EXPECT_EQ(levels[0].qo_indptr, (Ints{0, 4}));
  EXPECT_EQ(levels[1].table.indices, (Ints{3, 4, 5, 6}));
  EXPECT_EQ(levels[1].qo_indptr, (Ints{0, 2, 4}));
  EXPECT_EQ(levels[2].table.indices, (Ints{10, 11, 12, 13}));
}

TEST(Cascade, NamesWhatIsWrong) {
  Batch good;
  good.add(1, {1, 2}, 3);
  good.add(2, {1, 3}, 4);
  const auto spoiled = [&](auto&& change) {
    return [good, change] {
      Batch batch = good;
      CascadeSearch search;
      change(batch, search);
      find_cascade(batch.qo_indptr, batch.table, batch.page_size, search);
    };
  };
  const ErrorCode code = ErrorCode::invalid_argument;
  expect_errors({
      {spoiled([](Batch& b, CascadeSearch&) { b.page_size = 0; }), code,
       "find_cascade: page_size: got 0, expected 1 or more"},
      {spoiled([](Batch&, CascadeSearch& s) { s.min_shared_tokens = 0; }), code,
       "find_cascade: min_shared_tokens: got 0, expected 1 or more"},
      {spoiled([](Batch&, CascadeSearch& s) { s.max_levels = 0; }), code,
       "find_cascade: max_levels: got 0, expected 1 or more"},
      {spoiled([](Batch& b, CascadeSearch&) { b.qo_indptr.clear(); }), code,
       "find_cascade: qo_indptr: got 0 entries, expected batch + 1 entries"},
      {spoiled([](Batch& b, CascadeSearch&) { b.qo_indptr[0] = 1; }), code,
       "find_cascade: qo_indptr: got 1 at [0], expected 0"},
      {spoiled([](Batch& b, CascadeSearch&) { b.table.indptr[1] = 5; }), code,
       "find_cascade: table.indptr: got 4 at [2] after 5, expected values that do not decrease"},
      {spoiled([](Batch& b, CascadeSearch&) { b.table.indptr.pop_back(); }), code,
       "find_cascade: table.indptr: got 2 entries, expected 3"},
      {spoiled([](Batch& b, CascadeSearch&) { b.table.last_page_len.pop_back(); }), code,
       "find_cascade: table.last_page_len: got 1 entries, expected 2"},
      {spoiled([](Batch& b, CascadeSearch&) { b.table.indices.pop_back(); }), code,
       "find_cascade: table.indices: got 3 entries, expected 4"},
  });
}

}  // namespace
}  // namespace quire::test
