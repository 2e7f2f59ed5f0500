// The workspace that was never too small: array lengths that do not match, empty KV, exact needs.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/expect_error.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

constexpr int kBatch = 256;
constexpr AttentionShape kGemma{
    .num_qo_heads = 8, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128, .page_size = 16};

std::vector<std::int32_t> iota(int count) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = i;
  return values;
}

TEST(AcceptanceB, LengthMismatchNamesBothArrays) {
  const TestTensor qo = TestTensor::ints(iota(kBatch + 1), kCpu);
  const TestTensor kv = TestTensor::ints({0}, kCpu);
  const TestTensor none = TestTensor::ints({}, kCpu);
  const PageTable table{kv, none, none};
  const std::string text =
      "attention.plan: qo_indptr and kv_indptr: got 257 and 1 entries, expected the same number, "
      "batch + 1";
  BatchAttention attention(test_device());
  expect_error([&] { attention.plan(kGemma, qo, table); }, ErrorCode::invalid_argument, text);
  expect_error([&] { attention_workspace_bytes(test_device(), kGemma, qo, table); },
               ErrorCode::invalid_argument, text);
  EXPECT_EQ(attention.workspace_bytes(), 0u);
}

TEST(AcceptanceB, ZeroKvIndptrMeansNoKv) {
  const int batch = is_emulated() ? 9 : kBatch;
  AttentionCase c{.shape = kGemma};
  c.qo_lens.assign(static_cast<std::size_t>(batch), 1);
  c.kv_lens.assign(static_cast<std::size_t>(batch), 0);
  c.causal = true;
  c.window_left = 4096;
  c.logits_soft_cap = 50;
  const AttentionAnswer answer = AttentionBatch(c).run();
  for (const double x : answer.out) ASSERT_EQ(x, 0);
  for (const double x : answer.lse) ASSERT_EQ(x, -std::numeric_limits<double>::infinity());
}

// Soft cap and window change from layer to layer; one plan serves all.
TEST(AcceptanceB, OnePlanServesEveryLayer) {
  AttentionCase c{.shape = kGemma};
  c.qo_lens = is_emulated() ? std::vector{1, 3} : std::vector{1, 1, 40};
  c.kv_lens = is_emulated() ? std::vector{90, 30} : std::vector{5000, 200, 4300};
  c.causal = true;
  c.logits_soft_cap = 50;
  c.q_scale = 8;
  for (const int window : {is_emulated() ? 40 : 4096, -1}) {
    c.window_left = window;
    const AttentionBatch batch(c);
    expect_near(batch.run(), batch.reference(), c);
  }
}

TEST(AcceptanceB, WorkspaceIsExactAndGrowsWithTheWork) {
  AttentionCase c{.shape = kGemma};
  c.plan.fixed_split_size = 32;
  std::size_t previous = 0;
  for (const int kv_len : {33, 64, 65, 200}) {
    c.kv_lens = {kv_len};
    const AttentionBatch batch(c);
    const std::size_t bytes = batch.workspace_bytes();
    const int parts = (kv_len + 31) / 32;
    EXPECT_EQ(bytes, static_cast<std::size_t>(parts * kGemma.num_qo_heads * 129 * 4));
    EXPECT_GE(bytes, previous);
    previous = bytes;
    expect_near(batch.run(), batch.reference(), c);  // with exactly that much
  }
  // Requests that are not split need nothing, whatever the batch.
  c.kv_lens.assign(is_emulated() ? 8 : kBatch, 30);
  c.qo_lens.assign(c.kv_lens.size(), 1);
  EXPECT_EQ(AttentionBatch(c).workspace_bytes(), 0u);
}

TEST(AcceptanceB, TooSmallWorkspaceSaysHowMuchIsNeeded) {
  AttentionCase c{.shape = kGemma, .kv_lens = {64}};
  c.plan.fixed_split_size = 32;
  const AttentionBatch batch(c);
  const TestTensor small = TestTensor::poisoned({8255}, DType::u8);
  BatchAttention attention(test_device());
  attention.set_workspace(small.view());
  expect_error(
      [&] { batch.plan(attention); }, ErrorCode::out_of_memory,
      "attention.plan: workspace: got 8255 bytes, expected at least 8256 bytes: 16 partial "
      "rows of split KV, 129 floats each");
}

}  // namespace
}  // namespace quire::test
