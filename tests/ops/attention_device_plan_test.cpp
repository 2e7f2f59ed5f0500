// Plans that the device makes.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "jit/scoped_environment.h"
#include "support/expect_error.h"
#include "support/planning_step.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

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

TEST(AttentionDevicePlan, PlansOnTheDeviceAsOnTheHost) {
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

// Speculation: more rows than the decode kernel is for on Hopper.
TEST(AttentionDevicePlan, PlansManyTokensARequest) {
  const Pool pool;
  constexpr int kTokens = 12;
  constexpr AttentionReservation kRoom{
      .max_batch_size = 3, .max_total_q = 3 * kTokens, .max_qo_len = kTokens, .max_kv_entries = 48};
  BatchAttention device(test_device()), host(test_device());
  device.reserve(kShape, kRoom);
  host.reserve(kShape, kRoom);
  for (const int qo_len : {1, kTokens}) {
    for (const Lens& lens : {Lens{60, 12, 33}, Lens{64, 0}}) {
      const DeviceTable table(lens, 16);
      device.plan_on_device(kShape, qo_len, table.view());
      const Step step(Lens(lens.size(), qo_len), lens, {0, 16, 32});
      host.plan(kShape, step.qo_indptr(), step.table());
      const TestTensor q = random_q(step.num_rows);
      EXPECT_EQ(run_bits(device, pool, q, true), run_bits(host, pool, q, true)) << lens[0];
      device.check_plan();
    }
  }
}

// Reserved memory has none.
TEST(AttentionDevicePlan, ForgetsTheCopiesOfPlansBefore) {
  if (!test_device().is_cuda() || !is_hopper()) GTEST_SKIP() << "only attention_sm90 reads copies";
  const ScopedVariable kernel("QUIRE_FORCE_KERNEL", "sm90"), copy("QUIRE_FORCE_COPY", "1");
  const Pool pool;
  const Lens lens{60, 2, 33};
  const Step step({1, 1, 1}, lens, {0, 16, 32});
  BatchAttention device(test_device()), host(test_device());
  for (int i = 0; i < 2; ++i) device.plan(kShape, step.qo_indptr(), step.table());
  EXPECT_GT(device.workspace_bytes(), 0u);
  device.reserve(kShape, kDeviceRoom);
  host.reserve(kShape, kDeviceRoom);
  const DeviceTable table(lens, 16);
  device.plan_on_device(kShape, 1, table.view());
  host.plan(kShape, step.qo_indptr(), step.table());
  const TestTensor q = random_q(3);
  EXPECT_EQ(run_bits(device, pool, q, true), run_bits(host, pool, q, true));
}

TEST(AttentionDevicePlan, ARaggedTableOnTheDevice) {
  const Pool pool;
  BatchAttention device(test_device()), host(test_device());
  device.reserve(kShape, kDeviceRoom);
  const Lens lens{30, 0, 9};
  const TestTensor seq_lens = TestTensor::ints(lens), indptr = TestTensor::ints({0, 9, 9, 12}),
                   ids = TestTensor::ints({5, 6, 7, 8, 9, 10, 11, 12, -1, 20, 21, 22});
  device.plan_on_device(kShape, 1,
                        {.seq_lens = seq_lens,
                         .block_tables = {},
                         .kv_indptr = indptr.view(),
                         .kv_indices = ids.view()});
  const Step step({1, 1, 1}, lens, {5, 0, 20});
  host.plan(kShape, step.qo_indptr(), step.table());
  const TestTensor q = random_q(3);
  EXPECT_EQ(run_bits(device, pool, q, true), run_bits(host, pool, q, true));
}

TEST(AttentionDevicePlan, ALengthThatDoesNotFitIsNaNAndReported) {
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

TEST(AttentionDevicePlan, CheckedRunsLookAtUsedPagesOfTablesOnTheDevice) {
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
  expect_errors(
      {{[&] {
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

TEST(AttentionDevicePlan, BadDeviceTablesAreNamed) {
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
    EXPECT_TRUE(
        std::string(error.what()).starts_with("attention.plan_on_device: qo_len: got 1000"));
  }
}

}  // namespace
}  // namespace quire::test
