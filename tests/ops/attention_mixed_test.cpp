// Batches of prompts and single tokens, which two kernels at once may do.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/test_device.h"

#if QUIRE_WITH_CUDA
#include "cuda/attention.h"
#include "cuda/driver.h"
#endif

namespace quire::test {
namespace {

AttentionCase mixed(const std::string& name) {
  AttentionCase c{.name = name};
  const int scale = is_emulated() ? 1 : 20;
  c.shape.num_kv_heads = 1;
  c.shape.head_dim_qk = c.shape.head_dim_vo = 128;
  for (int i = 0; i < 20; ++i) {
    c.qo_lens.push_back(i % 7 == 5 ? 0 : 1);
    c.kv_lens.push_back(i % 6 == 4 ? 0 : 20 * scale + 9 * i);
  }
  c.qo_lens[3] = 50 * scale;
  c.kv_lens[3] = 70 * scale;
  c.qo_lens[9] = c.kv_lens[9] = 37;
  c.causal = true;
  return c;
}

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases{mixed("page16")};
  const auto add = [&cases](const std::string& name, auto&& change) {
    AttentionCase c = mixed(name);
    change(c);
    cases.push_back(c);
  };
  add("page1", [](AttentionCase& c) { c.shape.page_size = 1; });
  add("dim64", [](AttentionCase& c) { c.shape.head_dim_qk = c.shape.head_dim_vo = 64; });
  add("dim64_page1", [](AttentionCase& c) {  // the second kernel comes after the first
    c.shape.head_dim_qk = c.shape.head_dim_vo = 64;
    c.shape.page_size = 1;
  });
  add("dim64_fp8_kv", [](AttentionCase& c) {  // the second kernel comes first
    c.shape.head_dim_qk = c.shape.head_dim_vo = 64;
    c.shape.kv_dtype = DType::f8e4m3;
  });
  add("ragged", [](AttentionCase& c) { c.shape.page_size = 0; });
  add("hints", [](AttentionCase& c) {
    c.plan.causal = true;
    c.plan.window_left = c.window_left = 30;
  });
  add("window", [](AttentionCase& c) { c.window_left = 11; });
  add("everything", [](AttentionCase& c) {
    c.custom_mask = c.sinks = c.alibi = c.packed_kv = true;
    c.logits_soft_cap = 3;
    c.shape.layout = KvLayout::hnd;
  });
  add("odd_rows", [](AttentionCase& c) { c.odd_stride = 3; });
  add("fixed_split", [](AttentionCase& c) { c.plan.fixed_split_size = 32; });
  add("no_split", [](AttentionCase& c) { c.plan.disable_split_kv = true; });
  add("invariant", [](AttentionCase& c) { c.plan.batch_invariant = true; });
  add("fp8_kv", [](AttentionCase& c) { c.shape.kv_dtype = DType::f8e4m3; });
  add("group16", [](AttentionCase& c) { c.shape.num_qo_heads = 16; });
  return cases;
}

class AttentionMixed : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionMixed, AgreesWithReference) {
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, AttentionMixed, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });

// The counters of split tiles are as they were after every run, and merges come after both.
TEST(AttentionMixed, RunsOfOnePlanAreTheSame) {
  const AttentionBatch batch(mixed(""));
  expect_equal_runs(batch);
}

#if QUIRE_WITH_CUDA
TEST(AttentionMixed, TwoKernelsWhereTheSecondCanStartBesideTheFirst) {
  if (!test_device().is_cuda()) GTEST_SKIP() << "CUDA only";
  cuda::AttentionDemand demand{.shape = {.head_dim_qk = 128, .head_dim_vo = 128},
                               .mean_packed_rows = 100,
                               .max_packed_rows = 1000,
                               .group_size = 4,
                               .page_size = 16};
  const auto few = [&] {
    return cuda::attention_target(test_device().index, demand, nullptr).tile.few.tile_q;
  };
  EXPECT_EQ(few(), 0);
  demand.mean_long_rows = 1000;
  const auto& limits = cuda::device_limits(test_device().index);
  const bool two = limits.compute_major == 9 && limits.has_early_starts;
  EXPECT_EQ(few(), two ? 8 : 0);
  const auto order = [&] {
    return cuda::attention_target(test_device().index, demand, nullptr).tile.few.two;
  };
  using plan::TwoKernels;
  EXPECT_EQ(order(), TwoKernels::at_once);
  demand.shape.head_dim_qk = demand.shape.head_dim_vo = 64;
  demand.page_size = 1;
  EXPECT_EQ(order(), two ? TwoKernels::few_last : TwoKernels::at_once);
  demand.group_size = 16;  // alone, so many gathered rows get another kernel than decode
  EXPECT_EQ(few(), two ? 16 : 0);
  demand.group_size = 4;
  demand.shape.kv_dtype = kernels::DType::f8e4m3;
  EXPECT_EQ(order(), two ? TwoKernels::few_first : TwoKernels::at_once);
  demand.shape.kv_dtype = demand.shape.q_dtype;
  demand.shape.head_dim_qk = demand.shape.head_dim_vo = 128;
  demand.group_size = 16;  // too much to multiply for the decode kernel
  EXPECT_EQ(few(), 0);
}
#endif

}  // namespace
}  // namespace quire::test
