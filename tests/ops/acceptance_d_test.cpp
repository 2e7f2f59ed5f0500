// The layout that lied: a pool that does not match the plan, and garbage in device metadata.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/expect_error.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

AttentionCase original() {
  AttentionCase c;
  c.shape = {.num_qo_heads = 64,
             .num_kv_heads = 8,
             .head_dim_qk = 128,
             .head_dim_vo = 128,
             .page_size = 32};
  c.qo_lens = {1, 1};
  c.kv_lens = {512, 512};
  return c;
}

// K or V of a pool of shape [num_pages, 2, …].
TensorView half_of(const TensorView& pool, int which) {
  TensorView half = pool.slice(1, which, which + 1);
  for (int i = 1; i + 1 < half.rank; ++i) {
    half.shape[static_cast<std::size_t>(i)] = half.shape[static_cast<std::size_t>(i) + 1];
    half.strides[static_cast<std::size_t>(i)] = half.strides[static_cast<std::size_t>(i) + 1];
  }
  --half.rank;
  return half;
}

TEST(AcceptanceD, OtherLayoutIsNamed) {
  const AttentionBatch batch(original());
  const TestTensor pool = TestTensor::random({32, 2, 8, 32, 128}, DType::bf16, 1);  // HND
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);  // NHD
  const PagedKv lie{half_of(pool, 0), half_of(pool, 1), KvLayout::nhd};
  expect_error([&] { attention.run(batch.q(), lie, out); }, ErrorCode::invalid_argument,
               "attention.run: k: got shape [32, 8, 32, 128], expected [num_pages, page_size 32, "
               "num_kv_heads 8, head_dim 128] for layout nhd; the shape fits layout hnd");
  const PagedKv other{half_of(pool, 0), half_of(pool, 1), KvLayout::hnd};
  expect_error([&] { attention.run(batch.q(), other, out); }, ErrorCode::invalid_argument,
               "attention.run: layout: got hnd, expected nhd, the layout of the plan");
  for (const double x : out.values()) ASSERT_TRUE(std::isnan(x));
}

TEST(AcceptanceD, PoolThatDoesNotMatchThePlanIsNamed) {
  const AttentionBatch batch(original());
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  struct Row {
    Shape shape;
    DType dtype;
    ErrorCode code;
    std::string text;
  };
  const std::string expected =
      ", expected [num_pages, page_size 32, num_kv_heads 8, head_dim 128] for layout nhd";
  const std::vector<Row> rows{
      {{35, 16, 8, 128},
       DType::bf16,
       ErrorCode::invalid_argument,
       "attention.run: k: got shape [35, 16, 8, 128]" + expected},
      {{35, 32, 4, 128},
       DType::bf16,
       ErrorCode::invalid_argument,
       "attention.run: k: got shape [35, 32, 4, 128]" + expected},
      {{35, 32, 8, 64},
       DType::bf16,
       ErrorCode::invalid_argument,
       "attention.run: k: got shape [35, 32, 8, 64]" + expected},
      {{35, 2, 32, 8, 128},
       DType::bf16,
       ErrorCode::invalid_argument,
       "attention.run: k: got rank 5 (shape [35, 2, 32, 8, 128]), expected rank 4"},
      {{35, 32, 8, 128},
       DType::f16,
       ErrorCode::wrong_type,
       "attention.run: k: got f16, expected bf16"},
  };
  for (const Row& row : rows) {
    const TestTensor kv = TestTensor::poisoned(row.shape, row.dtype);
    expect_error([&] { attention.run(batch.q(), PagedKv{kv, kv, KvLayout::nhd}, out); }, row.code,
                 row.text);
  }
}

TEST(AcceptanceD, BothLayoutsGiveTheRightAnswer) {
  for (const KvLayout layout : {KvLayout::nhd, KvLayout::hnd}) {
    AttentionCase c = original();
    c.shape.layout = layout;
    if (is_emulated()) {
      c.shape.num_qo_heads = 16;
      c.shape.num_kv_heads = 2;
    }
    const AttentionBatch batch(c);
    expect_near(batch.run(), batch.reference(), c);
  }
}

// Page ids on a device are not read by the host: any bytes there end in an answer of some kind.
TEST(AcceptanceD, GarbageInDeviceMetadataStaysInsideTheOutputs) {
  AttentionCase c = original();
  if (is_emulated()) {
    c.shape.num_qo_heads = 16;
    c.shape.num_kv_heads = 2;
    c.kv_lens = {130, 64};
  }
  const AttentionBatch batch(c);
  std::mt19937 engine(5);
  std::vector<std::int32_t> garbage(static_cast<std::size_t>(batch.table().indices.shape[0]));
  for (std::int32_t& id : garbage) id = static_cast<std::int32_t>(engine());
  const TestTensor indices = TestTensor::ints(garbage);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  PageTable table = batch.table();
  table.indices = indices;
  BatchAttention attention(test_device());
  if (test_device().is_cpu()) {  // here the host sees them
    EXPECT_THROW(attention.plan(c.shape, batch.qo_indptr(), table), Error);
    return;
  }
  attention.plan(c.shape, batch.qo_indptr(), table);
  attention.run(batch.q(), batch.kv(), out);
  synchronize(test_device());
  EXPECT_TRUE(out.guards_intact());

  garbage.assign(garbage.size(), 0);
  garbage.back() = 1 << 20;
  const TestTensor one_bad = TestTensor::ints(garbage);
  table.indices = one_bad;
  attention.plan(c.shape, batch.qo_indptr(), table, {.checked = true});
  expect_error([&] { attention.run(batch.q(), batch.kv(), out); }, ErrorCode::invalid_argument,
               "attention.run: kv_indices: got a bad page id at [" +
                   std::to_string(garbage.size() - 1) +
                   "] (request 1), expected 0 or more and below " +
                   std::to_string(batch.kv().k.shape[0]) + ", the num_pages of k");
}

}  // namespace
}  // namespace quire::test
