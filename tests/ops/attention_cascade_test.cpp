// Cascades against attention over the joined tokens of all levels, in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "quire/cascade.h"
#include "support/cascade_case.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Four requests that decode behind one prefix, and one without it.
CascadeCase decode_case(const std::string& name) {
  CascadeCase c{.base = {.name = name}};
  const int prefix = is_emulated() ? 160 : 1600;
  c.levels = {{{4, 1}, {prefix, 0}}, {{1, 1, 1, 1, 1}, {7, 40, 1, 16, 33}}};
  return c;
}

// Rows of prompts: tiles of groups do not end where those of requests do.
CascadeCase append_case(const std::string& name) {
  CascadeCase c{.base = {.name = name, .causal = true}};
  c.levels = {{{52, 9}, {130, 64}}, {{21, 0, 30, 1, 9}, {21, 5, 45, 3, 0}}};
  return c;
}

CascadeCase three_levels(const std::string& name) {
  CascadeCase c{.base = {.name = name, .causal = true}};
  c.levels = {{{12}, {96}}, {{5, 4, 3}, {48, 0, 130}}, {{2, 3, 4, 1, 2}, {2, 17, 20, 0, 9}}};
  return c;
}

std::vector<CascadeCase> all_cases() {
  std::vector<CascadeCase> cases{decode_case("decode"), append_case("append"),
                                 three_levels("three_levels")};
  const auto add = [&cases](CascadeCase c, auto&& change) {
    change(c.base);
    cases.push_back(c);
  };
  add(decode_case("decode_page1"), [](AttentionCase& c) { c.shape.page_size = 1; });
  add(decode_case("decode_hnd"), [](AttentionCase& c) { c.shape.layout = KvLayout::hnd; });
  add(decode_case("decode_sinks_cap"),
      [](AttentionCase& c) { c.sinks = true, c.logits_soft_cap = 3, c.lse_base = LseBase::two; });
  add(decode_case("decode_indices_on_device"),
      [](AttentionCase& c) { c.indices_on_device = true; });
  add(decode_case("decode_kv_f8"),
      [](AttentionCase& c) { c.shape.kv_dtype = DType::f8e4m3, c.k_scale = 0.5f, c.v_scale = 2; });
  add(decode_case("decode_f16_group8"), [](AttentionCase& c) {
    c.shape.q_dtype = c.shape.kv_dtype = c.shape.o_dtype = DType::f16;
    c.shape.num_qo_heads = 8, c.shape.num_kv_heads = 1;
  });
  CascadeCase many = decode_case("decode_many");  // enough rows for the Hopper kernel
  many.levels = {{{20, 2}, {is_emulated() ? 144 : 1440, 32}}, {{}, {}}};
  for (int r = 0; r < 22; ++r) {
    many.levels[1].qo_lens.push_back(1);
    many.levels[1].kv_lens.push_back(1 + r * 7 % 40);
  }
  cases.push_back(many);
  add(append_case("append_not_causal"), [](AttentionCase& c) { c.causal = false; });
  add(append_case("append_hint"), [](AttentionCase& c) { c.plan.causal = true; });
  add(append_case("append_split"), [](AttentionCase& c) { c.plan.fixed_split_size = 32; });
  add(append_case("append_no_split"), [](AttentionCase& c) { c.plan.disable_split_kv = true; });
  add(append_case("append_sinks"), [](AttentionCase& c) { c.sinks = true; });
  add(append_case("append_dim128"), [](AttentionCase& c) {
    c.shape.head_dim_qk = c.shape.head_dim_vo = 128;
    c.shape.num_qo_heads = 3, c.shape.num_kv_heads = 1;
  });
  add(three_levels("three_levels_split"), [](AttentionCase& c) {
    c.plan.fixed_split_size = 48, c.sinks = true, c.lse_base = LseBase::two;
  });
  CascadeCase nothing = append_case("no_tokens");
  for (LevelLens& level : nothing.levels) std::ranges::fill(level.kv_lens, 0);
  cases.push_back(nothing);
  CascadeCase flat = append_case("one_level");
  flat.levels.erase(flat.levels.begin());
  cases.push_back(flat);
  return cases;
}

class AttentionCascade : public testing::TestWithParam<CascadeCase> {};

TEST_P(AttentionCascade, AgreesWithAttentionOverAllTokens) {
  const Cascade cascade(GetParam());
  expect_near(cascade.run(), cascade.reference(), GetParam().base);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionCascade, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.base.name; });

// Nothing of a cascade is left in the next plan.
TEST(AttentionCascade, OnePlanAfterTheOther) {
  const Cascade cascade(append_case("")), other(three_levels(""));
  AttentionCase flat{.name = ""};
  flat.qo_lens = {2, 5}, flat.kv_lens = {40, 9};
  flat.causal = true;
  flat.window_left = 5;
  const AttentionBatch batch(flat);
  BatchAttention attention(test_device());
  cascade.plan(attention);
  batch.plan(attention);
  const TestTensor flat_out = TestTensor::poisoned(batch.out_shape(), flat.shape.o_dtype);
  const TestTensor flat_lse = TestTensor::poisoned(batch.lse_shape(), DType::f32);
  attention.run(batch.q(), batch.kv(), flat_out, flat_lse.view(), batch.options());
  other.plan(attention);
  const TestTensor out = other.poisoned_out(), lse = other.poisoned_lse();
  other.run(attention, out, lse, other.options());
  synchronize(test_device());
  expect_near({flat_out.values(), flat_lse.values()}, batch.reference(), flat);
  expect_near({out.values(), lse.values()}, other.reference(), three_levels("").base);
}

// Without levels: those of the pool that the pages are from.
TEST(AttentionCascade, LevelsOfAPool) {
  constexpr int kPages = 32, kPageSize = 16;
  const AttentionShape shape{.num_qo_heads = 4,
                             .num_kv_heads = 2,
                             .head_dim_qk = 64,
                             .head_dim_vo = 64,
                             .page_size = kPageSize,
                             .q_dtype = DType::f16,
                             .kv_dtype = DType::f16,
                             .o_dtype = DType::f16};
  KvPool pool(kPages, kPageSize);
  std::vector<std::int32_t> tokens(70);
  std::iota(tokens.begin(), tokens.end(), 0);
  std::vector<SequenceId> ids{pool.allocate()};
  pool.append(ids[0], tokens);
  pool.cache_prefix(ids[0]);
  tokens.back() = 1000;
  ids.push_back(pool.allocate(tokens));
  pool.append(ids[1], std::span(tokens).subspan(pool.num_cached_tokens(ids[1])));
  const std::vector<std::int32_t> qo_indptr{0, 1, 2};
  const auto q = TestTensor::random({2, 4, 64}, DType::f16, 1);
  const auto k = TestTensor::random({kPages, kPageSize, 2, 64}, DType::f16, 2);
  const auto v = TestTensor::random({kPages, kPageSize, 2, 64}, DType::f16, 3);

  const KvPool::Table table = pool.table(ids);
  const CascadeSearch search{.min_shared_tokens = 32};
  std::vector<CascadeTable> found = find_cascade(qo_indptr, table, kPageSize, search);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].table.indices.size(), 4u);
  std::vector<CascadeLevel> levels{found[0].view(), found[1].view()};
  BatchAttention given(test_device()), searched(test_device());
  given.plan_cascade(shape, levels);
  plan_cascade(searched, shape, qo_indptr, table, {}, search);
  EXPECT_EQ(given.workspace_bytes(), searched.workspace_bytes());
  const auto out = TestTensor::poisoned({2, 4, 64}, DType::f16);
  const auto other = TestTensor::poisoned({2, 4, 64}, DType::f16);
  given.run(q, {k, v}, out);
  searched.run(q, {k, v}, other);
  synchronize(test_device());
  EXPECT_EQ(out.raw(), other.raw());
  for (const double x : out.values()) EXPECT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace quire::test
