#include <gtest/gtest.h>

#include <algorithm>

#include "quire/append.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;
using Ints = std::vector<std::int32_t>;
using enum ErrorCode;

const std::string kOp = "append_paged_kv: ";

// The arguments of one call, to be spoilt one at a time.
struct AppendCall {
  TensorView key, value, batch_indices, positions;
  PagedKv cache;
  PageTable table;

  void operator()() const { append_paged_kv(key, value, batch_indices, positions, cache, table); }
};

TensorView with_strides(TensorView view, std::initializer_list<std::int64_t> strides) {
  std::copy(strides.begin(), strides.end(), view.strides.begin());
  return view;
}

TensorView on_other_device(TensorView view) {
  view.device = test::other_device();
  return view;
}

class AppendErrors : public testing::Test {
 protected:
  // The good call, with one thing changed.
  template <class Spoil>
  AppendCall bad(Spoil&& spoil) const {
    AppendCall call{key,
                    value,
                    requests,
                    positions,
                    {k_pool, v_pool, KvLayout::nhd},
                    {indptr, indices, last_page_len}};
    spoil(call);
    return call;
  }

  void TearDown() override {
    EXPECT_EQ(k_pool.raw(), clean_k);
    EXPECT_EQ(v_pool.raw(), clean_v);
  }

  const TestTensor key = TestTensor::random({2, 4, 16}, DType::bf16, 1);
  const TestTensor value = TestTensor::random({2, 4, 8}, DType::bf16, 2);
  const TestTensor k_pool = TestTensor::poisoned({8, 5, 4, 16}, DType::bf16);
  const TestTensor v_pool = TestTensor::poisoned({8, 5, 4, 8}, DType::bf16);
  const TestTensor requests = TestTensor::ints({0, 1}), positions = TestTensor::ints({0, 3});
  const TestTensor indptr = TestTensor::ints({0, 1, 2}), indices = TestTensor::ints({3, 5});
  const TestTensor last_page_len = TestTensor::ints({1, 4});
  const std::vector<std::uint8_t> clean_k = k_pool.raw(), clean_v = v_pool.raw();
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
};

TEST_F(AppendErrors, RowsAndTheirIndices) {
  const TestTensor i64_rows = TestTensor::poisoned({2, 4, 16}, DType::i64);
  const TestTensor i64_index = TestTensor::from({0, 0}, {2}, DType::i64);
  test::expect_errors({
      {bad([&](auto& c) { c.key = requests; }), invalid_argument,
       kOp + "key: got rank 1 (shape [2]), expected rank 3"},
      {bad([&](auto& c) { c.key = i64_rows; }), wrong_type,
       kOp +
           "key: got i64, expected f32 or f16 or bf16 or f8e4m3 or f8e5m2 or i32 or u8 or boolean"},
      {bad([&](auto& c) { c.key = with_strides(key, {64, 1, 4}); }), invalid_argument,
       kOp + "key: got strides [64, 1, 4], expected stride 1 in the last dimension"},
      {bad([&](auto& c) { c.value = value.view().slice(0, 0, 1); }), invalid_argument,
       kOp + "value: got 1 in dimension 0 (shape [1, 4, 8]), expected 2 (rows of key)"},
      {bad([&](auto& c) { c.value = value.view().slice(1, 0, 3); }), invalid_argument,
       kOp + "value: got 3 in dimension 1 (shape [2, 3, 8]), expected 4 (num_kv_heads of key)"},
      {bad([&](auto& c) { c.value = on_other_device(value); }), invalid_argument,
       kOp + "value: got " + there + ", expected " + here + ", the device of key"},
      {bad([&](auto& c) { c.batch_indices = i64_index; }), wrong_type,
       kOp + "batch_indices: got i64, expected i32"},
      {bad([&](auto& c) { c.batch_indices = requests.view().slice(0, 0, 1); }), invalid_argument,
       kOp + "batch_indices: got 1 in dimension 0 (shape [1]), expected 2 (rows of key)"},
      {bad([&](auto& c) { c.positions = on_other_device(positions); }), invalid_argument,
       kOp + "positions: got " + there + ", expected " + here + ", the device of key"},
  });
}

TEST_F(AppendErrors, CacheAndTable) {
  const TestTensor hnd_pool = TestTensor::poisoned({8, 4, 5, 16}, DType::bf16);
  const TestTensor f16_pool = TestTensor::poisoned({8, 5, 4, 16}, DType::f16);
  const TestTensor no_tokens = TestTensor::poisoned({8, 0, 4, 16}, DType::bf16);
  const TestTensor no_tokens_v = TestTensor::poisoned({8, 0, 4, 8}, DType::bf16);
  const TestTensor none = TestTensor::ints(Ints{}), spaced = TestTensor::ints({3, 0, 5});
  TensorView every_other = with_strides(spaced, {2});
  every_other.shape[0] = 2;
  test::expect_errors({
      {bad([&](auto& c) { c.cache.k = key; }), invalid_argument,
       kOp + "cache.k: got rank 3 (shape [2, 4, 16]), expected rank 4"},
      {bad([&](auto& c) { c.cache.k = f16_pool; }), wrong_type,
       kOp + "cache.k: got f16, expected bf16 or f8e4m3 or f8e5m2"},
      {bad([&](auto& c) { c.cache.k = hnd_pool; }), invalid_argument,
       kOp +
           "cache.k: got 5 in dimension 2 (shape [8, 4, 5, 16]), expected 4 (num_kv_heads of key; "
           "layout hnd would fit)"},
      {bad([&](auto& c) { c.cache.layout = KvLayout::hnd; }), invalid_argument,
       kOp +
           "cache.k: got 5 in dimension 1 (shape [8, 5, 4, 16]), expected 4 (num_kv_heads of key; "
           "layout nhd would fit)"},
      {bad([&](auto& c) { c.cache.k = v_pool; }), invalid_argument,
       kOp + "cache.k: got 8 in dimension 3 (shape [8, 5, 4, 8]), expected 16 (head_dim of key)"},
      {bad([&](auto& c) { c.cache.k = with_strides(k_pool, {320, 0, 16, 1}); }), invalid_argument,
       kOp +
           "cache.k: got strides [320, 0, 16, 1] for shape [8, 5, 4, 16], expected an output whose "
           "elements do not overlap"},
      {bad([&](auto& c) { c.cache.v = v_pool.view().slice(0, 0, 7); }), invalid_argument,
       kOp +
           "cache.v: got 7 in dimension 0 (shape [7, 5, 4, 8]), expected 8 (num_pages of cache.k)"},
      {bad([&](auto& c) { c.cache.v = v_pool.view().slice(1, 0, 2); }), invalid_argument,
       kOp +
           "cache.v: got 2 in dimension 1 (shape [8, 2, 4, 8]), expected 5 (page_size of cache.k)"},
      {bad([&](auto& c) { c.cache = {no_tokens, no_tokens_v, KvLayout::nhd}; }), invalid_argument,
       kOp + "cache.k: got page_size 0, expected page_size 1 or more"},
      {bad([&](auto& c) { c.table.indptr = none; }), invalid_argument,
       kOp + "table.indptr: got 0 entries, expected batch + 1 entries"},
      {bad([&](auto& c) { c.table.indptr = indptr.view().slice(0, 0, 2); }), invalid_argument,
       kOp + "table.last_page_len: got 2 in dimension 0 (shape [2]), expected 1 (batch of "
             "table.indptr)"},
      {bad([&](auto& c) { c.table.indices = every_other; }), invalid_argument,
       kOp + "table.indices: got strides [2] for shape [2], expected a contiguous tensor"},
      {bad([&](auto& c) { c.table.indices = on_other_device(indices); }), invalid_argument,
       kOp + "table.indices: got " + there + ", expected " + here + ", the device of key"},
  });
}

TEST(AppendErrorsOnTheHost, PageTables) {
  if (!test::test_device().is_cpu()) return;  // the CUDA backend cannot see the values
  const TestTensor rows = TestTensor::random({1, 2, 16}, DType::bf16, 1);
  const TestTensor pool = TestTensor::poisoned({8, 4, 2, 16}, DType::bf16);
  const TestTensor other_pool = TestTensor::poisoned({8, 4, 2, 16}, DType::bf16);
  const std::vector<std::uint8_t> clean = pool.raw();
  const TestTensor zero = TestTensor::ints({0});
  const auto with_table = [&](const Ints& indptr, const Ints& indices, const Ints& lengths) {
    return [&, indptr, indices, lengths] {
      append_paged_kv(
          rows, rows, zero, zero, {pool, other_pool, KvLayout::nhd},
          {TestTensor::ints(indptr), TestTensor::ints(indices), TestTensor::ints(lengths)});
    };
  };
  test::expect_errors({
      {with_table({1, 2}, {0, 1}, {1}), invalid_argument,
       kOp + "table.indptr: got 1 at 0, expected 0"},
      {with_table({0, 2, 1}, {0, 1}, {1, 1}), invalid_argument,
       kOp + "table.indptr: got 1 at 2, expected 2 or more, the entry before it"},
      {with_table({0, 3}, {0, 1}, {1}), invalid_argument,
       kOp + "table.indices: got 2 entries, expected 3 or more, the last entry of table.indptr"},
      {with_table({0, 1}, {0}, {0}), invalid_argument,
       kOp + "table.last_page_len: got 0 at 0, expected 1 to page_size (4)"},
      {with_table({0, 1}, {0}, {5}), invalid_argument,
       kOp + "table.last_page_len: got 5 at 0, expected 1 to page_size (4)"},
  });
  EXPECT_EQ(pool.raw(), clean);
}

}  // namespace
}  // namespace quire
