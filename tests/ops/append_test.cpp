#include "quire/append.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;
using Ints = std::vector<std::int32_t>;

struct AppendCase {
  KvLayout layout;
  std::int64_t num_kv_heads, head_dim_qk, head_dim_vo, page_size;
  std::int64_t spare_dims = 0;  // K and V share rows of head_dim_qk + head_dim_vo + spare elements
  bool packed = false;
};

// Three requests with 2, 0 and 3 pages out of 8; tokens in any order, some rows are padding.
struct AppendTable {
  Ints indptr{0, 2, 2, 5};
  Ints indices{6, 1, 3, 0, 7};
  Ints last_page_len;
  Ints batch_indices, positions;

  explicit AppendTable(std::int64_t page_size) {
    const auto size = static_cast<std::int32_t>(page_size);
    last_page_len = {size, 0, 1};
    batch_indices = {2, 0, -1, 0, 2, -7, 2, 0};
    positions = {2 * size, 0, 0, 2 * size - 1, 0, -5, 2 * size - 1, size};
    if (size == 1) {  // positions 2 size - 1 and size are the same slot
      batch_indices.back() = -1;
    }
  }
  std::int64_t nnz() const { return static_cast<std::int64_t>(batch_indices.size()); }
};

struct DeviceTable {
  explicit DeviceTable(const AppendTable& t)
      : indptr(TestTensor::ints(t.indptr)),
        indices(TestTensor::ints(t.indices)),
        last_page_len(TestTensor::ints(t.last_page_len)),
        batch_indices(TestTensor::ints(t.batch_indices)),
        positions(TestTensor::ints(t.positions)) {}
  PageTable view() const { return {indptr, indices, last_page_len}; }

  TestTensor indptr, indices, last_page_len, batch_indices, positions;
};

test::Shape pool_shape(const AppendCase& c, std::int64_t head_dim) {
  constexpr std::int64_t kNumPages = 8;
  if (c.layout == KvLayout::nhd) return {kNumPages, c.page_size, c.num_kv_heads, head_dim};
  return {kNumPages, c.num_kv_heads, c.page_size, head_dim};
}

// What a pool [pages, …, width] holds after rows [nnz, heads, width of rows] were written at
// `column` of its last dimension.
void reference_append(std::vector<double>& pool, std::int64_t pool_width,
                      const std::vector<double>& rows, std::int64_t head_dim, std::int64_t column,
                      const AppendCase& c, const AppendTable& t) {
  for (std::int64_t i = 0; i < t.nnz(); ++i) {
    if (t.batch_indices[i] < 0) continue;
    const std::int64_t page =
        t.indices[t.indptr[t.batch_indices[i]] + t.positions[i] / c.page_size];
    const std::int64_t slot = t.positions[i] % c.page_size;
    for (std::int64_t head = 0; head < c.num_kv_heads; ++head) {
      const std::int64_t row = c.layout == KvLayout::nhd
                                   ? (page * c.page_size + slot) * c.num_kv_heads + head
                                   : (page * c.num_kv_heads + head) * c.page_size + slot;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        pool[row * pool_width + column + d] = rows[(i * c.num_kv_heads + head) * head_dim + d];
      }
    }
  }
}

// Poison compares unequal to itself; any other number will do.
std::vector<double> without_nan(std::vector<double> values) {
  for (double& x : values) x = std::isnan(x) ? 1e30 : x;
  return values;
}

void run_append_case(const AppendCase& c, DType dtype) {
  SCOPED_TRACE(std::string(name(dtype)) + (c.layout == KvLayout::nhd ? " nhd" : " hnd") +
               " heads " + std::to_string(c.num_kv_heads) + " head_dim " +
               std::to_string(c.head_dim_qk) + "/" + std::to_string(c.head_dim_vo) + " page_size " +
               std::to_string(c.page_size) + (c.packed ? " packed" : ""));
  const AppendTable host(c.page_size);
  const DeviceTable table(host);
  const TestTensor key = TestTensor::random({host.nnz(), c.num_kv_heads, c.head_dim_qk}, dtype, 1);
  const TestTensor value =
      TestTensor::random({host.nnz(), c.num_kv_heads, c.head_dim_vo}, dtype, 2);
  if (c.packed) {
    const std::int64_t width = c.head_dim_qk + c.head_dim_vo + c.spare_dims;
    const TestTensor pool = TestTensor::poisoned(pool_shape(c, width), dtype);
    std::vector<double> ref = pool.values();
    const PagedKv cache{pool.view().slice(3, 0, c.head_dim_qk),
                        pool.view().slice(3, c.head_dim_qk, c.head_dim_qk + c.head_dim_vo),
                        c.layout};
    append_paged_kv(key, value, table.batch_indices, table.positions, cache, table.view());
    reference_append(ref, width, key.values(), c.head_dim_qk, 0, c, host);
    reference_append(ref, width, value.values(), c.head_dim_vo, c.head_dim_qk, c, host);
    EXPECT_EQ(without_nan(pool.values()), without_nan(ref));
    EXPECT_TRUE(pool.guards_intact());
    return;
  }
  const TestTensor k_pool = TestTensor::poisoned(pool_shape(c, c.head_dim_qk), dtype);
  const TestTensor v_pool = TestTensor::poisoned(pool_shape(c, c.head_dim_vo), dtype);
  std::vector<double> k_ref = k_pool.values(), v_ref = v_pool.values();
  append_paged_kv(key, value, table.batch_indices, table.positions, {k_pool, v_pool, c.layout},
                  table.view());
  reference_append(k_ref, c.head_dim_qk, key.values(), c.head_dim_qk, 0, c, host);
  reference_append(v_ref, c.head_dim_vo, value.values(), c.head_dim_vo, 0, c, host);
  EXPECT_EQ(without_nan(k_pool.values()), without_nan(k_ref));
  EXPECT_EQ(without_nan(v_pool.values()), without_nan(v_ref));
  EXPECT_TRUE(k_pool.guards_intact() && v_pool.guards_intact());
}

class AppendTest : public testing::TestWithParam<DType> {};

TEST_P(AppendTest, MatchesReference) {
  for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
    for (const std::int64_t page_size : {1, 5, 16}) {
      run_append_case({layout, 2, 16, 16, page_size}, GetParam());
      run_append_case({layout, 3, 24, 8, page_size}, GetParam());
      run_append_case({layout, 1, 7, 5, page_size}, GetParam());
      run_append_case({layout, 2, 16, 16, page_size, 0, true}, GetParam());
      run_append_case({layout, 2, 12, 8, page_size, 3, true}, GetParam());
    }
    if (!test::is_emulated()) {
      run_append_case({layout, 8, 128, 128, 64}, GetParam());
      run_append_case({layout, 4, 256, 192, 16, 64, true}, GetParam());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, AppendTest,
                         testing::Values(DType::bf16, DType::f16, DType::f32, DType::f8e4m3,
                                         DType::u8),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(Append, StridedRowsOfPackedQkv) {
  const AppendCase c{KvLayout::nhd, 2, 16, 16, 5};
  const AppendTable host(c.page_size);
  const DeviceTable table(host);
  const TestTensor qkv = TestTensor::random({host.nnz(), 7, 16}, DType::bf16, 1);  // 3 q, 2 k, 2 v
  const TestTensor k_pool = TestTensor::poisoned(pool_shape(c, 16), DType::bf16);
  const TestTensor v_pool = TestTensor::poisoned(pool_shape(c, 16), DType::bf16);
  std::vector<double> k_ref = k_pool.values(), v_ref = v_pool.values();
  append_paged_kv(qkv.view().slice(1, 3, 5), qkv.view().slice(1, 5, 7), table.batch_indices,
                  table.positions, {k_pool, v_pool, c.layout}, table.view());
  std::vector<double> key, value;
  const std::vector<double> all = qkv.values();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t head = i / 16 % 7;
    if (head >= 5) value.push_back(all[i]);
    if (head == 3 || head == 4) key.push_back(all[i]);
  }
  reference_append(k_ref, 16, key, 16, 0, c, host);
  reference_append(v_ref, 16, value, 16, 0, c, host);
  EXPECT_EQ(without_nan(k_pool.values()), without_nan(k_ref));
  EXPECT_EQ(without_nan(v_pool.values()), without_nan(v_ref));
}

// Acceptance case A's shapes.
TEST(Append, CaseA) {
  const TestTensor key = TestTensor::random({8, 2, 128}, DType::f16, 1);
  const TestTensor value = TestTensor::random({8, 2, 128}, DType::f16, 2);
  const TestTensor cache = TestTensor::poisoned({100, 2, 16, 2, 128}, DType::f16);
  const auto half = [&](int which) {
    TensorView view = cache.view().slice(1, which, which + 1);
    view.rank = 4;
    view.shape = {100, 16, 2, 128};
    view.strides = {2 * 16 * 2 * 128, 2 * 128, 128, 1};
    return view;
  };
  const TestTensor requests = TestTensor::poisoned({8}, DType::i32);
  const TestTensor positions = TestTensor::poisoned({8}, DType::i32);
  const TestTensor indptr = TestTensor::ints({0, 1}), last_page_len = TestTensor::ints({8});
  const TestTensor seq_lens = TestTensor::poisoned({1}, DType::i32);
  const TestTensor indices = TestTensor::ints({0}), append_indptr = TestTensor::ints({0, 8});
  get_seq_lens(indptr, last_page_len, 16, seq_lens);
  get_batch_indices_positions(append_indptr, seq_lens, requests, positions);
  append_paged_kv(key, value, requests, positions, {half(0), half(1), KvLayout::nhd},
                  {indptr, indices, last_page_len});

  std::vector<double> ref(100 * 2 * 16 * 2 * 128, std::nan(""));
  const std::vector<double> k = key.values(), v = value.values();
  std::copy(k.begin(), k.end(), ref.begin());
  std::copy(v.begin(), v.end(), ref.begin() + 16 * 2 * 128);
  EXPECT_EQ(without_nan(cache.values()), without_nan(ref));
}

// On CUDA every row that leads outside is skipped and the others are written; on the CPU the first
// one is an error and nothing is written.
TEST(Append, RowsThatLeadOutside) {
  const AppendCase c{KvLayout::nhd, 2, 16, 16, 4};
  struct Outside {
    std::int32_t request, position;
    Ints indices;
    std::string text;
  };
  const Ints good = {6, 1, 3, 0, 7};
  const std::vector<Outside> cases = {
      {3, 0, good, "batch_indices: got 3 at 0, expected less than the batch of 3"},
      {0, 8, good, "positions: got 8 at 0, expected a token of request 0, which has 2 pages of 4"},
      {0, -1, good,
       "positions: got -1 at 0, expected a token of request 0, which has 2 pages of 4"},
      {1, 0, good, "positions: got 0 at 0, expected a token of request 1, which has 0 pages of 4"},
      {2, 2147483647, good,
       "positions: got 2147483647 at 0, expected a token of request 2, which has 3 pages of 4"},
      {0, 5, {6, 8, 3, 0, 7}, "table.indices: got 8 at 1, expected 0 to 7, a page of cache.k"},
      {0, 5, {6, -1, 3, 0, 7}, "table.indices: got -1 at 1, expected 0 to 7, a page of cache.k"}};
  for (const Outside& bad : cases) {
    SCOPED_TRACE(bad.text);
    AppendTable host(c.page_size);
    host.indices = bad.indices;
    host.batch_indices = {bad.request, 2};
    host.positions = {bad.position, 1};
    const DeviceTable table(host);
    const TestTensor rows = TestTensor::random({2, 2, 16}, DType::bf16, 1);
    const TestTensor k_pool = TestTensor::poisoned(pool_shape(c, 16), DType::bf16);
    const TestTensor v_pool = TestTensor::poisoned(pool_shape(c, 16), DType::bf16);
    std::vector<double> ref = k_pool.values();
    const auto append = [&] {
      append_paged_kv(rows, rows, table.batch_indices, table.positions, {k_pool, v_pool, c.layout},
                      table.view());
    };
    if (test::test_device().is_cpu()) {
      test::expect_errors({{append, ErrorCode::invalid_argument, "append_paged_kv: " + bad.text}});
    } else {
      append();
      host.batch_indices[0] = -1;
      reference_append(ref, 16, rows.values(), 16, 0, c, host);
    }
    EXPECT_EQ(without_nan(k_pool.values()), without_nan(ref));
    EXPECT_EQ(without_nan(v_pool.values()), without_nan(ref));
    EXPECT_TRUE(k_pool.guards_intact() && v_pool.guards_intact());
  }
}

TEST(Append, GarbageMetadataStaysInsideTheOutputs) {
  if (test::test_device().is_cpu()) return;  // there it is an error: see above
  Ints garbage(40);
  std::uint32_t state = 12345;
  for (std::int32_t& x : garbage) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<std::int32_t>(state);
  }
  const TestTensor bytes = TestTensor::ints(garbage);
  const auto part = [&](int begin, int end) { return bytes.view().slice(0, begin, end); };

  const TestTensor rows = TestTensor::random({16, 2, 16}, DType::bf16, 1);
  const TestTensor k_pool = TestTensor::poisoned({8, 4, 2, 16}, DType::bf16);
  const TestTensor v_pool = TestTensor::poisoned({8, 4, 2, 16}, DType::bf16);
  append_paged_kv(rows, rows, part(0, 16), part(8, 24), {k_pool, v_pool, KvLayout::nhd},
                  {part(24, 28), part(28, 36), part(36, 39)});
  const TestTensor batch_indices = TestTensor::poisoned({16}, DType::i32);
  const TestTensor positions = TestTensor::poisoned({16}, DType::i32);
  get_batch_indices_positions(part(0, 9), part(9, 17), batch_indices, positions);
  const TestTensor seq_lens = TestTensor::poisoned({8}, DType::i32);
  get_seq_lens(part(0, 9), part(9, 17), 16, seq_lens);
  for (const TestTensor* t : {&k_pool, &v_pool, &batch_indices, &positions, &seq_lens}) {
    EXPECT_TRUE(t->guards_intact());
  }
}

TEST(Append, EmptyInputsDoNothing) {
  const TestTensor rows = TestTensor::poisoned({0, 2, 16}, DType::bf16);
  const TestTensor pool = TestTensor::poisoned({8, 4, 2, 16}, DType::bf16);
  const TestTensor none = TestTensor::ints(Ints{});
  append_paged_kv(rows, rows, none, none, {pool, pool, KvLayout::nhd},
                  {TestTensor::ints({0}), none, none});
  EXPECT_TRUE(pool.guards_intact());
}

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

TEST(Append, BadInput) {
  const TestTensor key = TestTensor::random({2, 4, 16}, DType::bf16, 1);
  const TestTensor value = TestTensor::random({2, 4, 8}, DType::bf16, 2);
  const TestTensor k_pool = TestTensor::poisoned({8, 5, 4, 16}, DType::bf16);
  const TestTensor v_pool = TestTensor::poisoned({8, 5, 4, 8}, DType::bf16);
  const TestTensor hnd_pool = TestTensor::poisoned({8, 4, 5, 16}, DType::bf16);
  const TestTensor f16_pool = TestTensor::poisoned({8, 5, 4, 16}, DType::f16);
  const TestTensor no_tokens = TestTensor::poisoned({8, 0, 4, 16}, DType::bf16);
  const TestTensor no_tokens_v = TestTensor::poisoned({8, 0, 4, 8}, DType::bf16);
  const TestTensor i64_rows = TestTensor::poisoned({2, 4, 16}, DType::i64);
  const TestTensor i64_index = TestTensor::from({0, 0}, {2}, DType::i64);
  const TestTensor requests = TestTensor::ints({0, 1}), positions = TestTensor::ints({0, 3});
  const TestTensor indptr = TestTensor::ints({0, 1, 2}), indices = TestTensor::ints({3, 5});
  const TestTensor last_page_len = TestTensor::ints({1, 4}), spaced = TestTensor::ints({3, 0, 5});
  const TestTensor none = TestTensor::ints(Ints{});
  const std::vector<std::uint8_t> clean_k = k_pool.raw(), clean_v = v_pool.raw();
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  TensorView every_other = with_strides(spaced, {2});
  every_other.shape[0] = 2;

  const AppendCall good{key,
                        value,
                        requests,
                        positions,
                        {k_pool, v_pool, KvLayout::nhd},
                        {indptr, indices, last_page_len}};
  const auto bad = [&](auto&& spoil) {
    AppendCall call = good;
    spoil(call);
    return call;
  };
  using enum ErrorCode;
  const std::string op = "append_paged_kv: ";
  test::expect_errors({
      {bad([&](auto& c) { c.key = requests; }), invalid_argument,
       op + "key: got rank 1 (shape [2]), expected rank 3"},
      {bad([&](auto& c) { c.key = i64_rows; }), wrong_type,
       op +
           "key: got i64, expected f32 or f16 or bf16 or f8e4m3 or f8e5m2 or i32 or u8 or boolean"},
      {bad([&](auto& c) { c.key = with_strides(key, {64, 1, 4}); }), invalid_argument,
       op + "key: got strides [64, 1, 4], expected stride 1 in the last dimension"},
      {bad([&](auto& c) { c.value = value.view().slice(0, 0, 1); }), invalid_argument,
       op + "value: got 1 in dimension 0 (shape [1, 4, 8]), expected 2 (rows of key)"},
      {bad([&](auto& c) { c.value = value.view().slice(1, 0, 3); }), invalid_argument,
       op + "value: got 3 in dimension 1 (shape [2, 3, 8]), expected 4 (num_kv_heads of key)"},
      {bad([&](auto& c) { c.value = on_other_device(value); }), invalid_argument,
       op + "value: got " + there + ", expected " + here + ", the device of key"},
      {bad([&](auto& c) { c.batch_indices = i64_index; }), wrong_type,
       op + "batch_indices: got i64, expected i32"},
      {bad([&](auto& c) { c.batch_indices = requests.view().slice(0, 0, 1); }), invalid_argument,
       op + "batch_indices: got 1 in dimension 0 (shape [1]), expected 2 (rows of key)"},
      {bad([&](auto& c) { c.positions = on_other_device(positions); }), invalid_argument,
       op + "positions: got " + there + ", expected " + here + ", the device of key"},
      {bad([&](auto& c) { c.cache.k = key; }), invalid_argument,
       op + "cache.k: got rank 3 (shape [2, 4, 16]), expected rank 4"},
      {bad([&](auto& c) { c.cache.k = f16_pool; }), wrong_type,
       op + "cache.k: got f16, expected bf16"},
      {bad([&](auto& c) { c.cache.k = hnd_pool; }), invalid_argument,
       op + "cache.k: got 5 in dimension 2 (shape [8, 4, 5, 16]), expected 4 (num_kv_heads of key; "
            "layout hnd would fit)"},
      {bad([&](auto& c) { c.cache.layout = KvLayout::hnd; }), invalid_argument,
       op + "cache.k: got 5 in dimension 1 (shape [8, 5, 4, 16]), expected 4 (num_kv_heads of key; "
            "layout nhd would fit)"},
      {bad([&](auto& c) { c.cache.k = v_pool; }), invalid_argument,
       op + "cache.k: got 8 in dimension 3 (shape [8, 5, 4, 8]), expected 16 (head_dim of key)"},
      {bad([&](auto& c) { c.cache.k = with_strides(k_pool, {320, 0, 16, 1}); }), invalid_argument,
       op +
           "cache.k: got strides [320, 0, 16, 1] for shape [8, 5, 4, 16], expected an output whose "
           "elements do not overlap"},
      {bad([&](auto& c) { c.cache.v = v_pool.view().slice(0, 0, 7); }), invalid_argument,
       op +
           "cache.v: got 7 in dimension 0 (shape [7, 5, 4, 8]), expected 8 (num_pages of cache.k)"},
      {bad([&](auto& c) { c.cache.v = v_pool.view().slice(1, 0, 2); }), invalid_argument,
       op +
           "cache.v: got 2 in dimension 1 (shape [8, 2, 4, 8]), expected 5 (page_size of cache.k)"},
      {bad([&](auto& c) { c.cache = {no_tokens, no_tokens_v, KvLayout::nhd}; }), invalid_argument,
       op + "cache.k: got page_size 0, expected page_size 1 or more"},
      {bad([&](auto& c) { c.table.indptr = none; }), invalid_argument,
       op + "table.indptr: got 0 entries, expected batch + 1 entries"},
      {bad([&](auto& c) { c.table.indptr = indptr.view().slice(0, 0, 2); }), invalid_argument,
       op + "table.last_page_len: got 2 in dimension 0 (shape [2]), expected 1 (batch of "
            "table.indptr)"},
      {bad([&](auto& c) { c.table.indices = every_other; }), invalid_argument,
       op + "table.indices: got strides [2] for shape [2], expected a contiguous tensor"},
      {bad([&](auto& c) { c.table.indices = on_other_device(indices); }), invalid_argument,
       op + "table.indices: got " + there + ", expected " + here + ", the device of key"},
  });
  EXPECT_EQ(k_pool.raw(), clean_k);
  EXPECT_EQ(v_pool.raw(), clean_v);
}

TEST(Append, BadPageTablesOnTheHost) {
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
  using enum ErrorCode;
  const std::string op = "append_paged_kv: ";
  test::expect_errors({
      {with_table({1, 2}, {0, 1}, {1}), invalid_argument,
       op + "table.indptr: got 1 at 0, expected 0"},
      {with_table({0, 2, 1}, {0, 1}, {1, 1}), invalid_argument,
       op + "table.indptr: got 1 at 2, expected 2 or more, the entry before it"},
      {with_table({0, 3}, {0, 1}, {1}), invalid_argument,
       op + "table.indices: got 2 entries, expected 3 or more, the last entry of table.indptr"},
      {with_table({0, 1}, {0}, {0}), invalid_argument,
       op + "table.last_page_len: got 0 at 0, expected 1 to page_size (4)"},
      {with_table({0, 1}, {0}, {5}), invalid_argument,
       op + "table.last_page_len: got 5 at 0, expected 1 to page_size (4)"},
  });
  EXPECT_EQ(pool.raw(), clean);
}

}  // namespace
}  // namespace quire
