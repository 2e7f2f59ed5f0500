// batch_invariant: a request's result does not depend on what else is in the batch.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "support/planning_step.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Request 0 has the same rows, lengths and pages in every batch.
TEST(AttentionBatchInvariance, BatchInvariantResultsAreTheSameBits) {
  const Pool pool;
  const std::vector<std::pair<int, int>> requests = {{1, 200}, {1, 5}, {3, 90}, {40, 70}};
  const std::vector<std::pair<Lens, Lens>> neighbours = {
      {{1}, {7}},
      {{1, 1, 1, 1, 1, 1, 1}, {3, 250, 90, 1, 0, 64, 65}},
      {{50, 1}, {60, 250}},
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
          attention.reserve(
              kShape, {.max_batch_size = 9, .max_total_q = 200, .max_kv_entries = 500}, options);
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
TEST(AttentionBatchInvariance, BatchInvariantPrefillIsDecode) {
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
