#include "quire/pages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;
using Values = std::vector<double>;

Values without_nan(Values values) {
  for (double& x : values) x = std::isnan(x) ? 1e30 : x;
  return values;
}

struct PoolCase {
  test::Shape page;
  DType dtype;
};

std::vector<PoolCase> pool_cases() {
  return {{{4, 2, 8}, DType::bf16},
          {{3, 5}, DType::f8e4m3},
          {{7}, DType::f32},
          {{2, 16, 3, 64}, DType::f16}};
}

std::size_t page_elements(const PoolCase& c) {
  std::size_t n = 1;
  for (const std::int64_t size : c.page) n *= static_cast<std::size_t>(size);
  return n;
}

TestTensor make_pool(const PoolCase& c, std::int64_t pages, std::uint64_t seed) {
  test::Shape shape = {pages};
  shape.insert(shape.end(), c.page.begin(), c.page.end());
  return TestTensor::random(shape, c.dtype, seed);
}

void copy_page(Values& to, std::int64_t dst, const Values& from, std::int64_t src, std::size_t n) {
  std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(src * static_cast<std::int64_t>(n)), n,
              to.begin() + static_cast<std::ptrdiff_t>(dst * static_cast<std::int64_t>(n)));
}

TEST(Pages, CopyWithinAPool) {
  for (const PoolCase& c : pool_cases()) {
    for (const DType index : {DType::i32, DType::i64}) {
      const TestTensor pool = make_pool(c, 9, 1);
      const Values before = pool.values();
      Values ref = before;
      const TestTensor src = TestTensor::from({3, -1, 3, 8, 0}, {5}, index);
      const TestTensor dst = TestTensor::from({1, 2, 6, 5, -4}, {5}, index);
      copy_pages(pool, src, dst);
      copy_page(ref, 1, before, 3, page_elements(c));
      copy_page(ref, 6, before, 3, page_elements(c));
      copy_page(ref, 5, before, 8, page_elements(c));
      EXPECT_EQ(pool.values(), ref);
      EXPECT_TRUE(pool.guards_intact());
    }
  }
}

TEST(Pages, CopyWithinAllPools) {
  const PoolCase c{{3, 2, 8}, DType::bf16};
  for (const int num_pools : {1, 3, 130}) {  // the last: two launches
    std::vector<TestTensor> pools;
    std::vector<TensorView> views;
    std::vector<Values> before;
    for (int i = 0; i < num_pools; ++i) {
      pools.push_back(make_pool(c, 5, static_cast<std::uint64_t>(i) + 1));
      views.push_back(pools.back().view());
      before.push_back(pools.back().values());
    }
    copy_pages(views, TestTensor::ints({3, -1, 0}), TestTensor::ints({1, 2, 4}));
    for (std::size_t i = 0; i < pools.size(); ++i) {
      Values ref = before[i];
      copy_page(ref, 1, before[i], 3, page_elements(c));
      copy_page(ref, 4, before[i], 0, page_elements(c));
      ASSERT_EQ(pools[i].values(), ref) << i;
      ASSERT_TRUE(pools[i].guards_intact());
    }
  }
  // Layers of one tensor, at addresses that allow no wide access.
  const TestTensor whole = TestTensor::random({3, 4, 2, 9}, DType::f8e4m3, 7);
  std::vector<TensorView> layers;
  for (int layer = 0; layer < 3; ++layer) {
    TensorView view =
        TensorView::contiguous(static_cast<std::uint8_t*>(whole.view().data) + layer * 72,
                               DType::f8e4m3, {4, 2, 9}, whole.view().device);
    layers.push_back(view.slice(2, 1, 8));
  }
  Values ref = whole.values();
  copy_pages(layers, TestTensor::ints({2}), TestTensor::ints({0}));
  for (std::size_t layer = 0; layer < 3; ++layer) {
    for (std::size_t i = 0; i < 18; ++i) {
      if (i % 9 >= 1 && i % 9 < 8) ref[layer * 72 + i] = ref[layer * 72 + 36 + i];
    }
  }
  EXPECT_EQ(without_nan(whole.values()), without_nan(ref));
}

TEST(Pages, GatherAndScatter) {
  for (const PoolCase& c : pool_cases()) {
    const TestTensor pool = make_pool(c, 6, 1), target = make_pool(c, 6, 2);
    const Values all = pool.values();
    const TestTensor ids = TestTensor::ints({5, 0, -1, 2});
    const TestTensor out = make_pool(c, 4, 3);
    Values ref = out.values();
    gather_pages(pool, ids, out);
    copy_page(ref, 0, all, 5, page_elements(c));
    copy_page(ref, 1, all, 0, page_elements(c));
    copy_page(ref, 3, all, 2, page_elements(c));
    EXPECT_EQ(out.values(), ref);
    EXPECT_TRUE(out.guards_intact());
    Values target_ref = target.values();
    scatter_pages(out, ids, target);
    copy_page(target_ref, 5, ref, 0, page_elements(c));
    copy_page(target_ref, 0, ref, 1, page_elements(c));
    copy_page(target_ref, 2, ref, 3, page_elements(c));
    EXPECT_EQ(target.values(), target_ref);
    EXPECT_TRUE(target.guards_intact());
  }
}

// K of a cache that packs K and V in its last dimension, of one layer among three, HND to NHD.
TEST(Pages, AnyStrides) {
  const TestTensor cache = TestTensor::random({5, 3, 2, 4, 12}, DType::bf16, 1);
  TensorView k = cache.view().slice(4, 0, 6).slice(1, 1, 2);  // [5, 1, 2, 4, 6]
  const TestTensor out = TestTensor::poisoned({2, 1, 4, 2, 6}, DType::bf16);
  TensorView swapped = out.view();
  std::swap(swapped.shape[2], swapped.shape[3]);
  std::swap(swapped.strides[2], swapped.strides[3]);
  gather_pages(k, TestTensor::ints({4, 1}), swapped);
  const Values all = cache.values(), got = out.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::size_t d = i % 6, head = i / 6 % 2, token = i / 12 % 4, page = i / 48 == 0 ? 4 : 1;
    EXPECT_EQ(got[i], all[(((page * 3 + 1) * 2 + head) * 4 + token) * 12 + d]) << i;
  }
  const Values before = cache.values();
  copy_pages(k, TestTensor::ints({0}), TestTensor::ints({2}));
  const Values after = cache.values();
  for (std::size_t i = 0; i < after.size(); ++i) {
    const std::size_t page = i / 288, layer = i / 96 % 3, d = i % 12;
    const bool copied = page == 2 && layer == 1 && d < 6;
    EXPECT_EQ(after[i], copied ? before[i - 2 * 288] : before[i]) << i;
  }
}

TEST(Pages, IdsOutside) {
  const TestTensor pool = TestTensor::random({4, 6}, DType::f32, 1);
  const TestTensor out = TestTensor::poisoned({3, 6}, DType::f32);
  const TestTensor ids = TestTensor::from({4, 2, 1e12}, {3}, DType::i64);
  const auto gather = [&] { gather_pages(pool, ids, out); };
  if (test::test_device().is_cpu()) {
    test::expect_errors({{gather, ErrorCode::invalid_argument,
                          "gather_pages: pages: got 4 at 0, expected less than the 4 pages of "
                          "pool"}});
    return;
  }
  Values ref = out.values();
  gather();
  copy_page(ref, 1, pool.values(), 2, 6);
  EXPECT_EQ(without_nan(out.values()), without_nan(ref));
  EXPECT_TRUE(out.guards_intact());
}

TEST(Pages, EmptyInputsDoNothing) {
  const TestTensor pool = TestTensor::random({4, 6}, DType::f32, 1);
  const TestTensor none = TestTensor::ints({});
  const std::vector<std::uint8_t> clean = pool.raw();
  copy_pages(pool, none, none);
  gather_pages(pool, none, TestTensor::poisoned({0, 6}, DType::f32));
  EXPECT_EQ(pool.raw(), clean);
}

TEST(Pages, BadInput) {
  const TestTensor pool = TestTensor::random({4, 2, 6}, DType::bf16, 1);
  const TestTensor f16 = TestTensor::random({2, 2, 6}, DType::f16, 1);
  const TestTensor other = TestTensor::poisoned({2, 3, 6}, DType::bf16);
  const TestTensor out = TestTensor::poisoned({2, 2, 6}, DType::bf16);
  const TestTensor two = TestTensor::ints({0, 1}), three = TestTensor::ints({2, 3, 1});
  const TestTensor wide = TestTensor::from({2, 3}, {2}, DType::i64);
  const std::vector<std::uint8_t> clean = pool.raw();
  TensorView column = pool.view();
  column.strides = {12, 1, 2};
  const TestTensor wider = TestTensor::poisoned({4, 2, 8}, DType::bf16);
  const TensorView spread = wider.view().slice(2, 0, 6);
  const TestTensor last = TestTensor::ints({2, 3});
  using enum ErrorCode;
  std::vector<test::BadCall> calls = {
      {[&] { copy_pages(two, two, two); }, invalid_argument,
       "copy_pages: pool: got rank 1 (shape [2]), expected rank 2 or more"},
      {[&] { copy_pages(column, two, two); }, invalid_argument,
       "copy_pages: pool: got strides [12, 1, 2], expected stride 1 in the last dimension"},
      {[&] { copy_pages(std::vector<TensorView>{}, two, two); }, invalid_argument,
       "copy_pages: pools: got none, expected one or more"},
      {[&] { copy_pages(std::vector{pool.view(), out.view()}, two, last); }, invalid_argument,
       "copy_pages: pools[1]: got shape [2, 2, 6], expected [4, 2, 6], the shape of pools[0]"},
      {[&] { copy_pages(std::vector{pool.view(), spread}, two, last); }, invalid_argument,
       "copy_pages: pools[1]: got " + to_string(spread) +
           ", expected the strides of pools[0]: " + to_string(pool.view())},
      {[&] { copy_pages(pool, two, three); }, invalid_argument,
       "copy_pages: dst: got shape [3], expected [2], the shape of src"},
      {[&] { copy_pages(pool, two, wide); }, wrong_type, "copy_pages: dst: got i64, expected i32"},
      {[&] { gather_pages(pool, pool, out); }, invalid_argument,
       "gather_pages: pages: got rank 3 (shape [4, 2, 6]), expected rank 1"},
      {[&] { gather_pages(pool, two, f16); }, wrong_type,
       "gather_pages: out: got f16, expected bf16"},
      {[&] { gather_pages(pool, two, other); }, invalid_argument,
       "gather_pages: out: got 3 in dimension 1 (shape [2, 3, 6]), expected 2 (as in pool)"},
      {[&] { scatter_pages(out, three, pool); }, invalid_argument,
       "scatter_pages: in: got 2 in dimension 0 (shape [2, 2, 6]), expected 3 (number of pages)"}};
  const TestTensor chain = TestTensor::ints({1, 2}), same = TestTensor::ints({2, 2});
  if (test::test_device().is_cpu()) {
    calls.push_back({[&] { copy_pages(pool, two, chain); }, invalid_argument,
                     "copy_pages: dst: got 1 at 0, expected pages that no other entry reads or "
                     "writes"});
    calls.push_back({[&] { scatter_pages(out, same, pool); }, invalid_argument,
                     "scatter_pages: pages: got 2 at 1, expected pages that no other entry reads "
                     "or writes"});
  }
  test::expect_errors(calls);
  EXPECT_EQ(pool.raw(), clean);
}

}  // namespace
}  // namespace quire
