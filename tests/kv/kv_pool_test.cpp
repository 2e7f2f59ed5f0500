#include "quire/kv_pool.h"

#include <gtest/gtest.h>

#include <numeric>

#include "support/expect_error.h"

namespace quire::test {
namespace {

using Ids = std::vector<std::int32_t>;

Ids range(int begin, int end) {
  Ids ids(end - begin);
  std::iota(ids.begin(), ids.end(), begin);
  return ids;
}

SequenceId filled(KvPool& pool, const Ids& tokens) {
  const SequenceId id = pool.allocate(tokens);
  pool.append(id, std::span(tokens).subspan(pool.num_cached_tokens(id)));
  return id;
}

TEST(KvPool, pages_follow_the_tokens) {
  KvPool pool(8, 4);
  const SequenceId id = pool.allocate();
  EXPECT_EQ(pool.last_page_len(id), 0);
  EXPECT_TRUE(pool.pages(id).empty());
  pool.append(id, range(0, 4));
  EXPECT_EQ(pool.pages(id).size(), 1u);
  EXPECT_EQ(pool.last_page_len(id), 4);
  pool.append(id, range(4, 9));
  EXPECT_EQ(pool.pages(id).size(), 3u);
  EXPECT_EQ(pool.last_page_len(id), 1);
  EXPECT_EQ(pool.stats().pages_free, 5);
}

TEST(KvPool, a_prefix_is_shared_only_after_it_was_entered) {
  KvPool pool(8, 4);
  const SequenceId first = filled(pool, range(0, 10));
  const SequenceId early = pool.allocate(range(0, 10));
  EXPECT_EQ(pool.num_cached_tokens(early), 0);
  pool.cache_prefix(first);
  const SequenceId second = pool.allocate(range(0, 10));
  EXPECT_EQ(pool.num_cached_tokens(second), 8);
  EXPECT_EQ(pool.pages(second)[1], pool.pages(first)[1]);
  EXPECT_EQ(pool.stats().pages_shared, 2);
  EXPECT_EQ(pool.stats().pages_saved, 2);
  EXPECT_EQ(pool.stats().prefix_hit_tokens, 8);
}

TEST(KvPool, the_last_token_is_never_cached) {
  KvPool pool(8, 4);
  pool.free(filled(pool, range(0, 8)));
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate(range(0, 8))), 4);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate(range(0, 9))), 8);
}

TEST(KvPool, a_fork_copies_the_last_page_when_it_is_written) {
  KvPool pool(8, 4);
  const SequenceId first = filled(pool, range(0, 6));
  const SequenceId second = pool.fork(first);
  EXPECT_EQ(pool.stats().pages_in_use, 2);
  const std::int32_t shared = pool.pages(first)[1];
  const auto copies = pool.append(second, range(6, 7));
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from_page, shared);
  EXPECT_EQ(copies[0].to_page, pool.pages(second)[1]);
  EXPECT_EQ(copies[0].num_tokens, 2);
  EXPECT_EQ(pool.pages(first)[1], shared);
  EXPECT_TRUE(pool.append(first, range(6, 7)).empty()) << "the page belongs to one sequence again";
}

TEST(KvPool, equal_prefixes_computed_twice_become_one) {
  KvPool pool(8, 4);
  const SequenceId first = filled(pool, range(0, 9)), second = filled(pool, range(0, 9));
  EXPECT_EQ(pool.stats().pages_in_use, 6);
  pool.cache_prefix(first);
  pool.cache_prefix(second);
  EXPECT_EQ(pool.stats().pages_in_use, 4);
  EXPECT_EQ(pool.pages(first)[0], pool.pages(second)[0]);
  EXPECT_NE(pool.pages(first)[2], pool.pages(second)[2]) << "a page that is not full stays";
}

TEST(KvPool, the_longest_unused_leaf_goes_first) {
  KvPool pool(6, 2);
  pool.free(filled(pool, {1, 2, 3, 4}));
  pool.free(filled(pool, {5, 6, 7, 8}));
  EXPECT_EQ(pool.num_cached_tokens(filled(pool, {1, 2, 3, 4, 9})), 4);  // used again
  pool.free(filled(pool, {10, 11, 12, 13}));  // 1 free page and 1 evicted: [7, 8]
  EXPECT_EQ(pool.stats().evictions, 1);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate({{5, 6, 7, 8, 9}})), 2);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate({{10, 11, 12, 13, 9}})), 4);
}

TEST(KvPool, pages_that_were_not_written_can_be_kept_out_of_the_tree) {
  KvPool pool(8, 4);
  pool.free(filled(pool, range(0, 8)), /*keep_prefix=*/false);
  EXPECT_EQ(pool.stats().pages_free, 8);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate(range(0, 8))), 0);
}

TEST(KvPool, exhaustion_loses_nothing) {
  KvPool pool(4, 4);
  pool.free(filled(pool, range(0, 4)));
  const SequenceId id = filled(pool, range(50, 58));
  expect_errors({{[&] { pool.append(id, range(0, 13)); }, ErrorCode::out_of_memory,
                  "kv_pool.append: tokens: got 13 tokens that need 4 pages, expected at most 2 "
                  "pages (1 free and 1 evictable of 4)"}});
  EXPECT_EQ(pool.num_tokens(id), 8);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate(range(0, 5))), 4) << "the prefix is still there";
}

TEST(KvPool, exhaustion_at_a_copy_loses_nothing) {
  KvPool pool(1, 4);
  const SequenceId first = filled(pool, range(0, 2)), second = pool.fork(first);
  EXPECT_THROW(pool.append(second, range(2, 3)), Error);
  EXPECT_EQ(pool.num_tokens(second), 2);
  EXPECT_EQ(pool.stats().pages_shared, 1);
}

TEST(KvPool, clear_prefixes_spares_what_is_used) {
  KvPool pool(8, 4);
  const SequenceId id = filled(pool, range(0, 9));
  pool.cache_prefix(id);
  pool.free(filled(pool, range(20, 28)));
  pool.clear_prefixes();
  EXPECT_EQ(pool.stats().pages_cached, 0);
  EXPECT_EQ(pool.num_cached_tokens(pool.allocate(range(0, 9))), 8);
}

TEST(KvPool, table_lists_the_pages_in_order_of_the_ids) {
  KvPool pool(8, 4);
  const SequenceId a = filled(pool, range(0, 6)), empty = pool.allocate();
  const SequenceId b = filled(pool, range(50, 54));
  const SequenceId order[] = {b, empty, a};
  const KvPool::Table table = pool.table(order);
  EXPECT_EQ(table.indptr, (Ids{0, 1, 1, 3}));
  EXPECT_EQ(table.indices, (Ids{pool.pages(b)[0], pool.pages(a)[0], pool.pages(a)[1]}));
  EXPECT_EQ(table.last_page_len, (Ids{4, 0, 2}));
}

TEST(KvPool, bad_input) {
  KvPool pool(8, 4);
  const SequenceId freed = filled(pool, range(0, 3));
  pool.free(freed);
  const auto bad = ErrorCode::invalid_argument;
  const SequenceId unknown[] = {7};
  expect_errors({
      {[] { KvPool(0, 4); }, bad, "kv_pool: num_pages: got 0, expected at least 1"},
      {[] { KvPool(4, -1); }, bad, "kv_pool: page_size: got -1, expected at least 1"},
      {[&] { pool.free(freed); }, bad,
       "kv_pool.free: id: got 0 (already freed), expected a sequence of this pool"},
      {[&] { pool.append(7, {}); }, bad,
       "kv_pool.append: id: got 7, expected a sequence of this pool"},
      {[&] { pool.fork(-1); }, bad, "kv_pool.fork: id: got -1, expected a sequence of this pool"},
      {[&] { pool.cache_prefix(7); }, bad,
       "kv_pool.cache_prefix: id: got 7, expected a sequence of this pool"},
      {[&] { pool.pages(7); }, bad, "kv_pool.pages: id: got 7, expected a sequence of this pool"},
      {[&] { pool.table(unknown); }, bad,
       "kv_pool.table: id: got 7, expected a sequence of this pool"},
  });
  EXPECT_EQ(pool.stats().pages_free, 8);
}

}  // namespace
}  // namespace quire::test
