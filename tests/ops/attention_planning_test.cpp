// Planning step after step: no allocation, exact memory, reservations, plans that the device makes,
// results that do not depend on the batch.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "quire/attention.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace {

std::atomic<bool> g_counts{false};
std::atomic<int> g_allocations{0};

void* allocate(std::size_t bytes) {
  if (g_counts) ++g_allocations;
  if (void* data = std::malloc(bytes == 0 ? 1 : bytes)) return data;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }

namespace quire::test {
namespace {

using Lens = std::vector<std::int32_t>;

constexpr int kHeads = 4, kKvHeads = 2, kHeadDim = 64, kPageSize = 4, kPages = 64;
constexpr AttentionShape kShape{.num_qo_heads = kHeads,
                                .num_kv_heads = kKvHeads,
                                .head_dim_qk = kHeadDim,
                                .head_dim_vo = kHeadDim,
                                .page_size = kPageSize};

// The arrays of one plan. Request r's pages begin at page first_page[r].
struct Step {
  Step(const Lens& qo_lens, const Lens& kv_lens, const Lens& first_pages = {}) {
    Lens qo{0}, kv{0}, ids, last;
    for (std::size_t r = 0; r < qo_lens.size(); ++r) {
      qo.push_back(qo.back() + qo_lens[r]);
      const int pages = (kv_lens[r] + kPageSize - 1) / kPageSize;
      const int first = first_pages.empty() ? static_cast<int>(ids.size()) : first_pages[r];
      for (int i = 0; i < pages; ++i) ids.push_back((first + i) % kPages);
      kv.push_back(static_cast<std::int32_t>(ids.size()));
      last.push_back(pages == 0 ? 0 : kv_lens[r] - (pages - 1) * kPageSize);
    }
    num_rows = qo.back();
    for (const Lens* values : {&qo, &kv, &ids, &last}) {
      tensors.push_back(TestTensor::ints(*values, kCpu));
    }
  }
  TensorView qo_indptr() const { return tensors[0]; }
  PageTable table() const { return {tensors[1], tensors[2], tensors[3]}; }
  int num_rows = 0;
  std::vector<TestTensor> tensors;
};

struct Pool {
  TestTensor k = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 2);
  TestTensor v = TestTensor::random({kPages, kPageSize, kKvHeads, kHeadDim}, DType::bf16, 3);
  PagedKv view() const { return {k, v, KvLayout::nhd}; }
};

using Bits = std::vector<std::uint8_t>;
constexpr std::size_t kRowBytes = kHeads * kHeadDim * 2;

// Rows of q are those of `all_q` from first_rows[r] on for request r.
Bits run_bits(BatchAttention& attention, const Pool& pool, const TestTensor& q, bool causal) {
  const Shape shape(q.view().shape.begin(), q.view().shape.begin() + 3);
  const TestTensor out = TestTensor::poisoned(shape, DType::bf16);
  const TestTensor lse = TestTensor::poisoned({shape[0], kHeads}, DType::f32);
  attention.run(q, pool.view(), out, lse.view(), {.causal = causal});
  EXPECT_TRUE(out.guards_intact() && lse.guards_intact());
  Bits bits = out.raw();
  const Bits lse_bits = lse.raw();
  bits.insert(bits.end(), lse_bits.begin(), lse_bits.end());
  return bits;
}

TestTensor random_q(int rows, std::uint64_t seed = 1) {
  return TestTensor::random({rows, kHeads, kHeadDim}, DType::bf16, seed);
}

TEST(AttentionPlanning, AllocatesNothingInSteadyState) {
  const std::vector<std::pair<Lens, Lens>> kinds = {
      {{1, 1, 1, 1}, {60, 3, 0, 17}}, {{200, 1, 90}, {200, 60, 100}}, {{1, 1}, {250, 250}}};
  for (const auto& [qo_lens, kv_lens] : kinds) {
    const Step step(qo_lens, kv_lens);
    Lens shorter = kv_lens;
    for (std::int32_t& len : shorter) len -= len / 5;
    const Step next(qo_lens, shorter);
    for (const int fixed_split_size : {0, 16}) {
      BatchAttention attention(test_device());
      const AttentionPlanOptions options{.causal = true, .fixed_split_size = fixed_split_size};
      const auto plan = [&](const Step& s) {
        attention.plan(kShape, s.qo_indptr(), s.table(), options);
      };
      for (int i = 0; i < 6; ++i) plan(i % 2 == 0 ? step : next);
      g_allocations = 0;
      g_counts = true;
      for (int i = 0; i < 6; ++i) plan(i % 2 == 0 ? step : next);
      g_counts = false;
      EXPECT_EQ(g_allocations, 0) << qo_lens[0] << " split " << fixed_split_size;
    }
  }
}

TEST(AttentionPlanning, TheCounterCounts) {
  g_allocations = 0;
  g_counts = true;
  BatchAttention attention(test_device());
  g_counts = false;
  EXPECT_GT(g_allocations, 0);
}

TEST(AttentionPlanning, WorkspaceOfAReservationIsExact) {
  constexpr AttentionReservation kRoom{
      .max_batch_size = 3, .max_total_q = 3, .max_kv_entries = kPages};
  const std::size_t bytes = attention_workspace_bytes(test_device(), kShape, kRoom);
  const auto size = static_cast<std::int64_t>(bytes);
  const TestTensor workspace = TestTensor::poisoned({size + 16}, DType::u8);
  TensorView exact = workspace.view().slice(0, 0, size);
  BatchAttention attention(test_device()), eager(test_device());
  const std::size_t row_bytes = (kHeadDim + 1) * sizeof(float);
  expect_errors({{[&] {
                    attention.set_workspace(exact.slice(0, 0, size - 1));
                    attention.reserve(kShape, kRoom);
                  },
                  ErrorCode::out_of_memory,
                  fmt::format("attention.reserve: workspace: got {} bytes, expected at least {} "
                              "bytes: {} partial rows of split KV, 65 floats each",
                              bytes - 1, bytes, bytes / row_bytes)}});
  attention.set_workspace(exact);
  attention.reserve(kShape, kRoom);
  EXPECT_EQ(attention.workspace_bytes(), bytes);
  const Pool pool;
  const TestTensor q = random_q(3);
  for (const Lens& kv_lens : {Lens{200, 3, 20}, Lens{0, 256, 0}, Lens{1, 1, 1}}) {
    const Step step({1, 1, 1}, kv_lens);
    attention.plan(kShape, step.qo_indptr(), step.table());
    EXPECT_EQ(attention.workspace_bytes(), bytes);
    eager.plan(kShape, step.qo_indptr(), step.table());
    EXPECT_EQ(eager.workspace_bytes(),
              attention_workspace_bytes(test_device(), kShape, step.qo_indptr(), step.table()));
    EXPECT_LE(eager.workspace_bytes(), bytes);
    EXPECT_EQ(run_bits(attention, pool, q, true), run_bits(eager, pool, q, true));
  }
  EXPECT_TRUE(workspace.guards_intact());
  const Bits raw = workspace.raw();
  for (std::size_t i = bytes; i < raw.size(); ++i) EXPECT_EQ(raw[i], raw.back());
}

TEST(AttentionPlanning, RowsPastThePlanAreNotWritten) {
  BatchAttention attention(test_device());
  attention.reserve(kShape, {.max_batch_size = 4, .max_total_q = 6, .max_kv_entries = kPages});
  const Step step({2, 1}, {9, 30});
  attention.plan(kShape, step.qo_indptr(), step.table());
  const TestTensor q = random_q(6);
  const TestTensor out = TestTensor::poisoned({6, kHeads, kHeadDim}, DType::bf16);
  const Pool pool;
  attention.run(q, pool.view(), out);
  const std::vector<double> values = out.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::isnan(values[i]), i >= 3 * kHeads * kHeadDim) << i;
  }
  const TestTensor seven = random_q(7), out7 = TestTensor::poisoned({7, kHeads, kHeadDim},
                                                                    DType::bf16);
  const TestTensor two = random_q(2), out2 = TestTensor::poisoned({2, kHeads, kHeadDim},
                                                                  DType::bf16);
  expect_errors({
      {[&] { attention.run(seven, pool.view(), out7); }, ErrorCode::invalid_argument,
       "attention.run: q: got 7 rows, expected 3 (total_q) to 6 (max_total_q)"},
      {[&] { attention.run(two, pool.view(), out2); }, ErrorCode::invalid_argument,
       "attention.run: q: got 2 rows, expected 3 (total_q) to 6 (max_total_q)"},
  });
}

TEST(AttentionPlanning, BadReservationsAreNamed) {
  BatchAttention attention(test_device());
  const auto reserve = [&](AttentionReservation r) { return [&, r] { attention.reserve(kShape, r); }; };
  expect_errors({
      {reserve({.max_batch_size = 0, .max_total_q = 4}), ErrorCode::invalid_argument,
       "attention.reserve: max_batch_size: got 0, expected 1 to 2147483647"},
      {reserve({.max_batch_size = 1, .max_total_q = 0}), ErrorCode::invalid_argument,
       "attention.reserve: max_total_q: got 0, expected 1 to 2147483647"},
      {reserve({.max_batch_size = 1, .max_total_q = 1, .max_kv_entries = -1}),
       ErrorCode::invalid_argument,
       "attention.reserve: max_kv_entries: got -1, expected 0 to 2147483647"},
  });
  attention.reserve(kShape, {.max_batch_size = 2, .max_total_q = 8, .max_qo_len = 4,
                             .max_kv_entries = 20});
  const Step long_rows({5}, {5}), other_split({1}, {5});
  const TestTensor workspace = TestTensor::poisoned({16}, DType::u8);
  expect_errors({
      {[&] { attention.plan(kShape, long_rows.qo_indptr(), long_rows.table()); },
       ErrorCode::invalid_argument,
       "attention.plan: rows of q of a request: got 5, expected at most 4, as reserved"},
      {[&] {
         attention.plan(kShape, other_split.qo_indptr(), other_split.table(),
                        {.fixed_split_size = 16});
       },
       ErrorCode::invalid_argument,
       "attention.plan: fixed_split_size: got 16, expected 0, as reserved"},
      {[&] {
         attention.plan(kShape, other_split.qo_indptr(), other_split.table(),
                        {.batch_invariant = true});
       },
       ErrorCode::invalid_argument,
       "attention.plan: batch_invariant: got 1, expected 0, as reserved"},
      {[&] { attention.set_workspace(workspace.view()); }, ErrorCode::invalid_argument,
       "attention.set_workspace: workspace: got one after reserve(), expected a call before "
       "reserve(): its addresses stay"},
      {[&] { attention.run(random_q(1), Pool().view(), random_q(1)); },
       ErrorCode::invalid_argument,
       "attention.run: plan: got none, expected a call of plan() before"},
  });
}

// ---- plans that the device makes -----------------------------------------------------------

struct DeviceTable {
  DeviceTable(const Lens& lens, int max_pages, int first_page = 0)
      : seq_lens(TestTensor::ints(lens)), pages(pages_of(lens, max_pages, first_page)) {}
  static TestTensor pages_of(const Lens& lens, int max_pages, int first_page) {
    std::vector<double> ids;
    for (std::size_t r = 0; r < lens.size(); ++r) {
      for (int i = 0; i < max_pages; ++i) {
        const bool used = i * kPageSize < lens[r];
        ids.push_back(used ? (first_page + static_cast<int>(r) * max_pages + i) % kPages : -1);
      }
    }
    return TestTensor::from(ids, {static_cast<std::int64_t>(lens.size()), max_pages}, DType::i32);
  }
  DevicePageTable view() const { return {.seq_lens = seq_lens, .block_tables = pages.view()}; }
  TestTensor seq_lens, pages;
};

constexpr AttentionReservation kDeviceRoom{
    .max_batch_size = 4, .max_total_q = 8, .max_qo_len = 2, .max_kv_entries = 64};

TEST(AttentionPlanning, PlansOnTheDeviceAsOnTheHost) {
  const Pool pool;
  for (const AttentionPlanOptions& options :
       {AttentionPlanOptions{}, AttentionPlanOptions{.fixed_split_size = 16},
        AttentionPlanOptions{.batch_invariant = true}}) {
    BatchAttention device(test_device()), host(test_device());
    device.reserve(kShape, kDeviceRoom, options);
    host.reserve(kShape, kDeviceRoom, options);
    for (const int qo_len : {1, 2}) {
      for (const Lens& lens : {Lens{60, 2, 33}, Lens{5, 0, 0, 64}, Lens{0}}) {
        const DeviceTable table(lens, 16);
        device.plan_on_device(kShape, qo_len, table.view(), options);
        const Step step(Lens(lens.size(), qo_len), lens, {0, 16, 32, 48});
        host.plan(kShape, step.qo_indptr(), step.table(), options);
        const TestTensor q = random_q(step.num_rows);
        EXPECT_EQ(run_bits(device, pool, q, true), run_bits(host, pool, q, true)) << lens[0];
        device.check_plan();
      }
    }
  }
}

TEST(AttentionPlanning, ARaggedTableOnTheDevice) {
  const Pool pool;
  BatchAttention device(test_device()), host(test_device());
  device.reserve(kShape, kDeviceRoom);
  const Lens lens{30, 0, 9};
  const TestTensor seq_lens = TestTensor::ints(lens), indptr = TestTensor::ints({0, 9, 9, 12}),
                   ids = TestTensor::ints({5, 6, 7, 8, 9, 10, 11, 12, -1, 20, 21, 22});
  device.plan_on_device(kShape, 1,
                        {.seq_lens = seq_lens, .block_tables = {}, .kv_indptr = indptr.view(),
                         .kv_indices = ids.view()});
  const Step step({1, 1, 1}, lens, {5, 0, 20});
  host.plan(kShape, step.qo_indptr(), step.table());
  const TestTensor q = random_q(3);
  EXPECT_EQ(run_bits(device, pool, q, true), run_bits(host, pool, q, true));
}

TEST(AttentionPlanning, ALengthThatDoesNotFitIsNaNAndReported) {
  BatchAttention attention(test_device());
  attention.reserve(kShape, kDeviceRoom);
  DeviceTable table({60, 65, 3}, 16);  // 16 pages hold 64
  const auto plan = [&](AttentionPlanOptions options) {
    attention.plan_on_device(kShape, 1, table.view(), options);
  };
  if (test_device().is_cpu()) {
    expect_errors({{[&] { plan({}); }, ErrorCode::invalid_argument,
                    "attention.plan_on_device: seq_lens: got 65 at [1], expected 0 to 64, what its "
                    "pages hold"}});
    return;
  }
  const std::string text =
      "attention.plan_on_device: seq_lens: got a length that does not fit at [1], expected 0 to "
      "what the request's pages, and what is reserved, hold";
  plan({});
  const Pool pool;
  const TestTensor q = random_q(3);
  const TestTensor out = TestTensor::poisoned({3, kHeads, kHeadDim}, DType::bf16);
  const TestTensor lse = TestTensor::poisoned({3, kHeads}, DType::f32);
  attention.run(q, pool.view(), out, lse.view());
  EXPECT_TRUE(out.guards_intact() && lse.guards_intact());
  const std::vector<double> values = out.values(), sums = lse.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::isnan(values[i]), i / (kHeads * kHeadDim) == 1) << i;
  }
  for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(std::isnan(sums[i]), i / kHeads == 1);
  expect_errors({
      {[&] { attention.check_plan(); }, ErrorCode::invalid_argument, text},
      {[&] { plan({.checked = true}); }, ErrorCode::invalid_argument, text},
  });
}

TEST(AttentionPlanning, CheckedRunsLookAtUsedPagesOfTablesOnTheDevice) {
  BatchAttention attention(test_device());
  attention.reserve(kShape, kDeviceRoom);
  const Pool pool;
  const TestTensor q = random_q(2), out = TestTensor::poisoned({2, kHeads, kHeadDim}, DType::bf16);
  DeviceTable table({20, 9}, 16);  // -1 past the used pages
  attention.plan_on_device(kShape, 1, table.view(), {.checked = true});
  attention.run(q, pool.view(), out);
  table.pages = DeviceTable::pages_of({20, 9}, 16, 0);
  std::vector<double> ids = table.pages.values();
  ids[16 + 2] = kPages;
  table.pages = TestTensor::from(ids, {2, 16}, DType::i32);
  expect_errors({{[&] {
                    attention.plan_on_device(kShape, 1, table.view(), {.checked = true});
                    attention.run(q, pool.view(), out);
                  },
                  ErrorCode::invalid_argument,
                  test_device().is_cpu()
                      ? "attention.run: kv_indices: got 64 at [7] (request 1), expected page ids "
                        "below 64, the num_pages of k"
                      : "attention.run: kv_indices: got a bad page id at [18] (request 1), expected "
                        "0 or more and below 64, the num_pages of k"}});
}

TEST(AttentionPlanning, BadDeviceTablesAreNamed) {
  BatchAttention attention(test_device());
  const DeviceTable table({20, 9}, 16);
  const auto plan = [&](DevicePageTable t, int qo_len = 1) {
    return [&, t, qo_len] { attention.plan_on_device(kShape, qo_len, t); };
  };
  expect_errors({{plan(table.view()), ErrorCode::invalid_argument,
                  "attention.plan_on_device: reservation: got none, expected a call of reserve() "
                  "before"}});
  attention.reserve(kShape, kDeviceRoom);
  DevicePageTable both = table.view(), neither = table.view(), other_batch = table.view();
  both.kv_indptr = both.kv_indices = table.seq_lens.view();
  neither.block_tables.reset();
  other_batch.seq_lens = other_batch.seq_lens.slice(0, 0, 1);
  const DeviceTable large({1, 1}, 33), many({1, 1, 1, 1, 1}, 2);
  expect_errors({
      {plan(both), ErrorCode::invalid_argument,
       "attention.plan_on_device: table: got block_tables, kv_indptr, kv_indices, expected either "
       "block_tables, or kv_indptr and kv_indices"},
      {plan(neither), ErrorCode::invalid_argument,
       "attention.plan_on_device: table: got no pages, expected either block_tables, or kv_indptr "
       "and kv_indices"},
      {plan(other_batch), ErrorCode::invalid_argument,
       "attention.plan_on_device: block_tables: got 2 in dimension 0 (shape [2, 16]), expected 1 "
       "(batch, the entries of seq_lens)"},
      {plan(table.view(), 0), ErrorCode::invalid_argument,
       "attention.plan_on_device: qo_len: got 0, expected 1 or more"},
      {plan(table.view(), 3), ErrorCode::invalid_argument,
       "attention.plan: rows of q of a request: got 3, expected at most 2, as reserved"},
      {plan(large.view()), ErrorCode::invalid_argument,
       "attention.plan: kv_indices: got 66, expected at most 64, as reserved"},
      {plan(many.view()), ErrorCode::invalid_argument,
       "attention.plan: batch_size: got 5, expected at most 4, as reserved"},
  });
  try {
    plan(table.view(), 1000)();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {  // the tile is the device's
    EXPECT_EQ(error.code(), ErrorCode::not_implemented);
    EXPECT_TRUE(std::string(error.what()).starts_with("attention.plan_on_device: qo_len: got 1000"));
  }
}

// ---- results that do not depend on the batch -----------------------------------------------

// Request 0 has the same rows, lengths and pages in every batch.
TEST(AttentionPlanning, BatchInvariantResultsAreTheSameBits) {
  const Pool pool;
  const std::vector<std::pair<int, int>> requests = {{1, 200}, {1, 5}, {3, 90}, {40, 70}};
  const std::vector<std::pair<Lens, Lens>> neighbours = {
      {{1}, {7}}, {{1, 1, 1, 1, 1, 1, 1}, {3, 250, 90, 1, 0, 64, 65}}, {{50, 1}, {60, 250}},
      {{0, 17}, {10, 17}}};
  for (const int fixed_split_size : {32, 0}) {
    const AttentionPlanOptions options{.fixed_split_size = fixed_split_size,
                                       .batch_invariant = true};
    for (const auto& [qo_len, kv_len] : requests) {
      const auto bits = [&](const Lens& other_qo, const Lens& other_kv, bool reserved) {
        Lens qo{qo_len}, kv{kv_len}, first{11};
        for (std::size_t i = 0; i < other_qo.size(); ++i) {
          qo.push_back(other_qo[i]);
          kv.push_back(other_kv[i]);
          first.push_back(static_cast<std::int32_t>(7 * i));
        }
        const Step step(qo, kv, first);
        BatchAttention attention(test_device());
        if (reserved) {
          attention.reserve(kShape,
                            {.max_batch_size = 9, .max_total_q = 200, .max_kv_entries = 500},
                            options);
        }
        attention.plan(kShape, step.qo_indptr(), step.table(), options);
        Bits all = run_bits(attention, pool, random_q(step.num_rows, 5), true);
        const std::size_t out_bytes = static_cast<std::size_t>(step.num_rows) * kRowBytes;
        Bits own(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(qo_len * kRowBytes));
        const auto lse = all.begin() + static_cast<std::ptrdiff_t>(out_bytes);
        own.insert(own.end(), lse, lse + qo_len * kHeads * 4);
        return own;
      };
      const Bits alone = bits({}, {}, false);
      EXPECT_EQ(bits({}, {}, true), alone) << "reserved";
      for (const auto& [other_qo, other_kv] : neighbours) {
        for (const bool reserved : {false, true}) {
          EXPECT_EQ(bits(other_qo, other_kv, reserved), alone)
              << qo_len << " rows, " << kv_len << " tokens, beside " << other_qo.size();
        }
      }
    }
  }
}

// The last row of a prefill is the decode step of its token.
TEST(AttentionPlanning, BatchInvariantPrefillIsDecode) {
  const Pool pool;
  constexpr AttentionPlanOptions kInvariant{.fixed_split_size = 32, .batch_invariant = true};
  const TestTensor q = random_q(70);
  const Step prefill({70}, {90});
  BatchAttention attention(test_device());
  attention.plan(kShape, prefill.qo_indptr(), prefill.table(), kInvariant);
  const Bits rows = run_bits(attention, pool, q, true);
  for (const int row : {69, 40, 3, 0}) {
    const Step decode({1}, {20 + row + 1});
    attention.plan(kShape, decode.qo_indptr(), decode.table(), kInvariant);
    const TestTensor q_row = TestTensor::from(
        [&] {
          const std::vector<double> all = q.values();
          const auto first = all.begin() + row * kHeads * kHeadDim;
          return std::vector<double>(first, first + kHeads * kHeadDim);
        }(),
        {1, kHeads, kHeadDim}, DType::bf16);
    const Bits step = run_bits(attention, pool, q_row, true);
    for (std::size_t i = 0; i < kRowBytes; ++i) {
      ASSERT_EQ(step[i], rows[static_cast<std::size_t>(row) * kRowBytes + i]) << row << " " << i;
    }
  }
}

}  // namespace
}  // namespace quire::test
