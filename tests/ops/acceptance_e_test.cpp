// NaN from someone else's kernel: what no request owns must not reach a result. On the emulator
// shared memory itself starts as NaN, on a GPU a kernel before fills it.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/attention_case.h"
#include "support/poison_shared_memory.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

TEST(AcceptanceE, OneTokenAmongPoisonedPages) {
  constexpr int kPages = 1024, kKvHeads = 4, kDim = 128, kUsed = 700;
  const AttentionShape shape{.num_qo_heads = 28,
                             .num_kv_heads = kKvHeads,
                             .head_dim_qk = kDim,
                             .head_dim_vo = kDim,
                             .page_size = 1};
  std::vector<double> values(kPages * kKvHeads * kDim, std::nan(""));
  for (int i = 0; i < kKvHeads * kDim; ++i) {
    values[static_cast<std::size_t>(kUsed * kKvHeads * kDim + i)] = 0.25 * (i % 31) - 3;
  }
  const Shape pool{kPages, 1, kKvHeads, kDim};
  const TestTensor k = TestTensor::from(values, pool, DType::bf16);
  const TestTensor v = TestTensor::from(values, pool, DType::bf16);
  const TestTensor q = TestTensor::random({1, 28, kDim}, DType::bf16, 3);
  const TestTensor out = TestTensor::poisoned({1, 28, kDim}, DType::bf16);
  const TestTensor lse = TestTensor::poisoned({1, 28}, DType::f32);
  const TestTensor indptr = TestTensor::ints({0, 1}, kCpu);
  const TestTensor indices = TestTensor::ints({kUsed}, kCpu), last = TestTensor::ints({1}, kCpu);
  BatchAttention attention(test_device());
  attention.plan(shape, indptr, PageTable{indptr, indices, last});
  poison_shared_memory();
  attention.run(q, PagedKv{k, v, KvLayout::nhd}, out, lse.view(), {.causal = true});
  synchronize(test_device());
  // One token has all the weight: out is its v.
  const std::vector<double> got = out.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::size_t head = i / kDim / 7, column = i % kDim;
    ASSERT_EQ(got[i], values[(kUsed * kKvHeads + head) * kDim + column]) << i;
  }
  for (const double x : lse.values()) EXPECT_TRUE(std::isfinite(x));
}

// The same bits whether pages, tails and gaps hold zeros or NaN.
TEST(AcceptanceE, PoisonChangesNoBit) {
  for (const int page_size : {1, 5, 16, 64}) {
    for (const int split : {0, 16}) {
      AttentionCase c;
      c.shape.page_size = page_size;
      c.shape.head_dim_qk = c.shape.head_dim_vo = 128;
      c.qo_lens = is_emulated() ? std::vector{1, 40, 3} : std::vector{1, 150, 3};
      c.kv_lens = is_emulated() ? std::vector{33, 47, 2} : std::vector{333, 150, 2};
      c.plan.fixed_split_size = split;
      c.causal = true;
      const AttentionAnswer poisoned = AttentionBatch(c).run();
      c.clean_padding = true;
      const AttentionAnswer clean = AttentionBatch(c).run();
      EXPECT_EQ(poisoned.out, clean.out);
      EXPECT_EQ(poisoned.lse, clean.lse);
      for (const double x : poisoned.out) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

}  // namespace
}  // namespace quire::test
