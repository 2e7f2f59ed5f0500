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

// Random, or bytes that count up: u8 holds no negative number.
TestTensor random_rows(const test::Shape& shape, DType dtype, std::uint64_t seed) {
  if (dtype != DType::u8) return TestTensor::random(shape, dtype, seed);
  std::vector<double> values(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = (i * 7 + seed) % 251;
  return TestTensor::from(values, shape, dtype);
}

void run_append_case(const AppendCase& c, DType dtype) {
  SCOPED_TRACE(std::string(name(dtype)) + (c.layout == KvLayout::nhd ? " nhd" : " hnd") +
               " heads " + std::to_string(c.num_kv_heads) + " head_dim " +
               std::to_string(c.head_dim_qk) + "/" + std::to_string(c.head_dim_vo) + " page_size " +
               std::to_string(c.page_size) + (c.packed ? " packed" : ""));
  const AppendTable host(c.page_size);
  const DeviceTable table(host);
  const TestTensor key = random_rows({host.nnz(), c.num_kv_heads, c.head_dim_qk}, dtype, 1);
  const TestTensor value = random_rows({host.nnz(), c.num_kv_heads, c.head_dim_vo}, dtype, 2);
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

}  // namespace
}  // namespace quire
