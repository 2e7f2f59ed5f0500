// Planning step after step: exact memory, reservations.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "support/expect_error.h"
#include "support/planning_step.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

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
  const TestTensor seven = random_q(7),
                   out7 = TestTensor::poisoned({7, kHeads, kHeadDim}, DType::bf16);
  const TestTensor two = random_q(2),
                   out2 = TestTensor::poisoned({2, kHeads, kHeadDim}, DType::bf16);
  expect_errors({
      {[&] { attention.run(seven, pool.view(), out7); }, ErrorCode::invalid_argument,
       "attention.run: q: got 7 rows, expected 3 (total_q) to 6 (max_total_q)"},
      {[&] { attention.run(two, pool.view(), out2); }, ErrorCode::invalid_argument,
       "attention.run: q: got 2 rows, expected 3 (total_q) to 6 (max_total_q)"},
  });
}

TEST(AttentionPlanning, BadReservationsAreNamed) {
  BatchAttention attention(test_device());
  const auto reserve = [&](AttentionReservation r) {
    return [&, r] { attention.reserve(kShape, r); };
  };
  expect_errors({
      {reserve({.max_batch_size = 0, .max_total_q = 4}), ErrorCode::invalid_argument,
       "attention.reserve: max_batch_size: got 0, expected 1 to 2147483647"},
      {reserve({.max_batch_size = 1, .max_total_q = 0}), ErrorCode::invalid_argument,
       "attention.reserve: max_total_q: got 0, expected 1 to 2147483647"},
      {reserve({.max_batch_size = 1, .max_total_q = 1, .max_kv_entries = -1}),
       ErrorCode::invalid_argument,
       "attention.reserve: max_kv_entries: got -1, expected 0 to 2147483647"},
  });
  attention.reserve(kShape,
                    {.max_batch_size = 2, .max_total_q = 8, .max_qo_len = 4, .max_kv_entries = 20});
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
      {[&] { attention.run(random_q(1), Pool().view(), random_q(1)); }, ErrorCode::invalid_argument,
       "attention.run: plan: got none, expected a call of plan() before"},
  });
}

}  // namespace
}  // namespace quire::test
