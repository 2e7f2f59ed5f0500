// Prompts whose K and V are copied to one piece first, against the double reference.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "jit/scoped_environment.h"
#include "support/attention_case.h"
#include "support/attention_shapes.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases;
  const auto add = [&cases](const std::string& name, int page_size, auto&& change) {
    AttentionCase c = mixed(name);
    c.causal = true;
    c.shape.page_size = page_size;
    change(c);
    cases.push_back(c);
  };
  const auto fp8 = [](AttentionCase& c) {
    c.shape.kv_dtype = DType::f8e4m3;
    c.head_scales = true;
  };
  add("page1", 1, [](AttentionCase&) {});
  add("page16", 16, [](AttentionCase&) {});
  add("f16", 3, [](AttentionCase& c) { set_dtype(c, DType::f16); });
  add("ragged_fp8", 0, fp8);
  add("packed_hnd", 5, [](AttentionCase& c) {
    c.packed_kv = true;
    c.shape.layout = KvLayout::hnd;
  });
  add("odd_rows", 7, [](AttentionCase& c) { c.odd_stride = 3; });
  add("odd_rows_fp8", 7, [&](AttentionCase& c) {
    fp8(c);
    c.odd_stride = 3;
  });
  add("many_tiles", 1,
      [](AttentionCase& c) { c.qo_lens = {1, 0, 40, 30, 7}, c.kv_lens = {300, 20, 300, 129, 0}; });
  add("split", 1, [](AttentionCase& c) { c.plan.fixed_split_size = 16; });
  add("split_fp8", 16, [&](AttentionCase& c) {
    fp8(c);
    c.plan.fixed_split_size = 16;
    c.sinks = true;
    c.v_scale = 2;
  });
  add("everything", 1, [&](AttentionCase& c) {
    fp8(c);
    c.custom_mask = c.sinks = c.alibi = c.packed_kv = true;
    c.logits_soft_cap = 3;
    c.window_left = 20;
    c.k_scale = 0.5f;
  });
  add("indices_on_device", 1, [](AttentionCase& c) { c.indices_on_device = true; });
  add("no_tokens", 1, [](AttentionCase& c) { c.qo_lens = {5, 3}, c.kv_lens = {0, 0}; });
  for (const DType kv : {DType::f8e4m3, DType::f8e5m2}) {
    for (const DType q : {DType::f16, DType::bf16}) {
      add(std::string(name(kv)) + "_" + std::string(name(q)), 64, [&](AttentionCase& c) {
        set_dtype(c, q);
        c.shape.kv_dtype = kv;
        c.head_scales = true;
      });
    }
  }
  add("q_fp8", 1, [](AttentionCase& c) {
    c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
    c.head_scales = true;
  });
  for (const int dim : {16, 80, 192, 256}) {
    add("dim" + std::to_string(dim), 1, [&](AttentionCase& c) {
      c.shape.num_qo_heads = 2, c.shape.num_kv_heads = 1;
      c.shape.head_dim_qk = dim;
      c.shape.head_dim_vo = dim == 192 ? 128 : dim;
    });
  }
  return cases;
}

// What a copy of all of the batch's tokens takes at least.
std::size_t copy_bytes(const AttentionCase& c) {
  std::size_t tokens = 0;
  for (std::size_t r = 0; r < c.qo_lens.size(); ++r) {
    if (c.qo_lens[r] > 0) tokens += static_cast<std::size_t>(c.kv_lens[r]);
  }
  return tokens * c.shape.num_kv_heads * (c.shape.head_dim_qk + c.shape.head_dim_vo) *
         size_bytes(c.shape.q_dtype);
}

class AttentionCopy : public testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda() || !is_hopper())
      GTEST_SKIP() << "only attention_sm90 reads copies";
  }
  const ScopedVariable kernel_{"QUIRE_FORCE_KERNEL", "sm90"};
  const ScopedVariable copy_{"QUIRE_FORCE_COPY", "1"};
};

TEST_P(AttentionCopy, AgreesWithReference) {
  const AttentionBatch batch(GetParam());
  EXPECT_GE(batch.workspace_bytes(), copy_bytes(GetParam()));
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, AttentionCopy, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });

class AttentionCopies : public AttentionCopy {};

// Prompts among single tokens, whose kernel reads the pages themselves.
TEST_F(AttentionCopies, OfPromptsAlone) {
  const ScopedVariable any_kernel("QUIRE_FORCE_KERNEL", nullptr);
  for (const DType kv : {DType::bf16, DType::f8e4m3}) {
    AttentionCase c{.name = "mixed"};
    c.shape.head_dim_qk = c.shape.head_dim_vo = 128;
    c.shape.num_kv_heads = 1;
    c.shape.page_size = 1;
    c.shape.kv_dtype = kv;
    c.qo_lens.assign(20, 1);
    c.kv_lens.assign(20, 30);
    c.qo_lens[5] = 50, c.kv_lens[5] = 70;
    c.causal = true;
    const AttentionBatch batch(c);
    AttentionCase prompt = c;
    prompt.qo_lens = {50}, prompt.kv_lens = {70};
    EXPECT_GE(batch.workspace_bytes(), copy_bytes(prompt));
    EXPECT_LT(batch.workspace_bytes(), copy_bytes(c));
    expect_near(batch.run(), batch.reference(), c);
    expect_equal_runs(batch);
  }
}

// Without room there is no copy, and no error.
TEST_F(AttentionCopies, NeedRoom) {
  AttentionCase c = mixed("");
  c.shape.page_size = 1;
  const AttentionBatch batch(c);
  const std::size_t with_copy = batch.workspace_bytes();
  const auto planned_with = [&](std::size_t room) {
    const auto size = static_cast<std::int64_t>(room);
    const TestTensor workspace = TestTensor::poisoned({size}, DType::u8);
    BatchAttention attention(test_device());
    attention.set_workspace(workspace);
    batch.plan(attention);
    return attention.workspace_bytes();
  };
  EXPECT_EQ(planned_with(with_copy), with_copy);
  const std::size_t without = planned_with(with_copy - 1);
  EXPECT_LT(without, with_copy - copy_bytes(c) + 1);
  c.plan.max_copy_bytes = static_cast<std::int64_t>(copy_bytes(c)) - 1;
  EXPECT_EQ(AttentionBatch(c).workspace_bytes(), without);
  c.plan.max_copy_bytes = 0;
  EXPECT_EQ(AttentionBatch(c).workspace_bytes(), without);
}

TEST_F(AttentionCopies, AreNotMadeWhereResultsMustNotDependOnTheBatch) {
  AttentionCase c = mixed("");
  c.shape.page_size = 1;
  c.plan.batch_invariant = true;
  EXPECT_LT(AttentionBatch(c).workspace_bytes(), copy_bytes(c));
}

// Not forced: prompts of many rows on small pages, or with an fp8 cache.
TEST_F(AttentionCopies, WhereTheyPay) {
  const ScopedVariable any_kernel("QUIRE_FORCE_KERNEL", nullptr);
  const ScopedVariable not_forced("QUIRE_FORCE_COPY", nullptr);
  const AttentionShape shape{
      .num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .page_size = 1};
  const auto bytes = [&](const AttentionShape& s, int qo_len, int kv_len) {
    AttentionCase c{.shape = s, .qo_lens = {qo_len}, .kv_lens = {kv_len}};
    c.plan.disable_split_kv = true;
    return AttentionBatch(c).workspace_bytes() / (std::size_t{512} * s.num_kv_heads);
  };
  EXPECT_EQ(bytes(shape, 3000, 4000), 4000u);
  EXPECT_LT(bytes(shape, 500, 600), 600u);
  AttentionShape other = shape;
  other.page_size = 16;
  EXPECT_LT(bytes(other, 3000, 4000), 4000u);
  other.kv_dtype = DType::f8e4m3;
  EXPECT_EQ(bytes(other, 3000, 4000), 4000u);
}

TEST(AttentionCopyErrors, NegativeBytes) {
  AttentionCase c = decode("");
  c.plan.max_copy_bytes = -1;
  BatchAttention attention(test_device());
  const AttentionBatch batch(decode(""));
  expect_error([&] { AttentionBatch(c).plan(attention); }, ErrorCode::invalid_argument,
               "attention.plan: max_copy_bytes: got -1, expected 0 or more");
}

}  // namespace
}  // namespace quire::test
