// Batch attention against the double reference in batches that nobody chose: shapes, types, strides
// and options are drawn. QUIRE_RANDOM_CASES says how many (a few, unless set), QUIRE_RANDOM_SEED
// the first; a failure names its seed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "core/env.h"
#include "support/attention_case.h"
#include "support/attention_shapes.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

class Draw {
 public:
  explicit Draw(int seed) : engine_(static_cast<std::uint64_t>(seed)) {}

  int from_to(int first, int last) {
    return first + static_cast<int>(engine_() % static_cast<std::uint64_t>(last - first + 1));
  }
  bool percent(int chance) { return from_to(1, 100) <= chance; }
  template <class T>
  T one_of(const std::vector<T>& values) {
    return values[static_cast<std::size_t>(from_to(0, static_cast<int>(values.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

bool has_fp8_queries() { return !is_emulated() || wants_hopper(); }

void draw_dtypes(Draw& draw, AttentionCase& c) {
  set_dtype(c, draw.one_of(dtypes()));
  if (has_fp8_queries() && draw.percent(30)) {
    c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
  } else if (draw.percent(30)) {
    c.shape.kv_dtype = draw.one_of<DType>({DType::f8e4m3, DType::f8e5m2});
  }
  c.head_scales = draw.percent(50);
}

void draw_shape(Draw& draw, AttentionCase& c) {
  AttentionShape& shape = c.shape;
  shape.num_kv_heads = draw.from_to(1, is_emulated() ? 2 : 3);
  shape.num_qo_heads =
      shape.num_kv_heads *
      (is_emulated() ? draw.from_to(1, 4) : draw.one_of<int>({1, 2, 3, 4, 5, 7, 8, 16}));
  shape.head_dim_qk = 16 * draw.from_to(1, 16);
  if (draw.percent(50)) shape.head_dim_qk = draw.one_of<int>({64, 128, 256});
  shape.head_dim_vo = draw.percent(80) ? shape.head_dim_qk : 16 * draw.from_to(1, 16);
  shape.page_size = draw.one_of<int>({0, 1, 5, 16, 16, 32, 48, 64, 128});
  shape.layout = draw.percent(50) ? KvLayout::nhd : KvLayout::hnd;
  c.packed_kv = draw.percent(20);
  c.odd_stride = draw.percent(70) ? 0 : draw.one_of<int>({3, 8, 16});
  c.indices_on_device = shape.page_size > 0 && draw.percent(20);
}

// Decodes, prompts, and both; some have no rows, or no tokens.
void draw_lengths(Draw& draw, AttentionCase& c) {
  const int most_rows = is_emulated() ? 60 : 300, most_tokens = is_emulated() ? 200 : 900;
  const int decodes = draw.one_of<int>({0, 50, 100});
  c.qo_lens.clear(), c.kv_lens.clear();
  for (int left = draw.from_to(1, is_emulated() ? 3 : 8); left > 0; --left) {
    const int rows = draw.percent(decodes) ? draw.from_to(1, 4) : draw.from_to(1, most_rows);
    c.qo_lens.push_back(draw.percent(5) ? 0 : rows);
    c.kv_lens.push_back(draw.percent(5) ? 0 : draw.from_to(1, most_tokens));
  }
}

void draw_options(Draw& draw, AttentionCase& c) {
  c.causal = draw.percent(60);
  if (draw.percent(20)) c.window_left = draw.from_to(0, 150);
  if (draw.percent(15)) c.logits_soft_cap = 3;
  c.sinks = draw.percent(15);
  c.alibi = draw.percent(15);
  c.custom_mask = draw.percent(15);
  c.empty_mask_rows = draw.percent(50);
  if (draw.percent(20)) c.k_scale = 0.5f, c.v_scale = 3;
  if (draw.percent(20)) c.lse_base = LseBase::two;
  c.with_lse = draw.percent(80);
}

void draw_plan(Draw& draw, AttentionCase& c) {
  c.plan.causal = c.causal && draw.percent(50);
  if (draw.percent(50)) c.plan.window_left = c.window_left;
  const int how = draw.from_to(1, 100);
  if (how <= 20) {
    c.plan.fixed_split_size = draw.one_of<int>({7, 16, 48, 64, 128});
  } else if (how <= 30) {
    c.plan.disable_split_kv = true;
  } else if (how <= 45) {
    c.plan.batch_invariant = true;
  }
  if (draw.percent(20)) c.plan.max_copy_bytes = 0;
}

AttentionCase drawn(int seed) {
  Draw draw(seed);
  AttentionCase c{.name = "seed" + std::to_string(seed)};
  draw_dtypes(draw, c);
  draw_shape(draw, c);
  draw_lengths(draw, c);
  draw_options(draw, c);
  draw_plan(draw, c);
  return c;
}

std::string description(const AttentionCase& c) {
  const AttentionShape& s = c.shape;
  return fmt::format(
      "q {} kv {} out {} heads {}/{} dims {}/{} page {} {} packed {} odd {} q [{}] kv [{}] "
      "causal {} window {} cap {} sinks {} alibi {} mask {} head scales {} split {} {} invariant "
      "{} copy {}",
      name(s.q_dtype), name(s.kv_dtype), name(s.o_dtype), s.num_qo_heads, s.num_kv_heads,
      s.head_dim_qk, s.head_dim_vo, s.page_size, s.layout == KvLayout::nhd ? "nhd" : "hnd",
      c.packed_kv, c.odd_stride, fmt::join(c.qo_lens, " "), fmt::join(c.kv_lens, " "), c.causal,
      c.window_left, c.logits_soft_cap, c.sinks, c.alibi, c.custom_mask, c.head_scales,
      c.plan.fixed_split_size, c.plan.disable_split_kv, c.plan.batch_invariant,
      c.plan.max_copy_bytes);
}

std::vector<AttentionCase> drawn_cases() {
  const int usual = is_emulated() ? 10 : on_gpu() ? 60 : 16;
  const int count = std::stoi(env::get("QUIRE_RANDOM_CASES").value_or(std::to_string(usual)));
  const int first = std::stoi(env::get("QUIRE_RANDOM_SEED").value_or("1"));
  std::vector<AttentionCase> cases;
  for (int i = 0; i < count; ++i) cases.push_back(drawn(first + i));
  return cases;
}

class AttentionRandom : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionRandom, AgreesWithReference) {
  if (on_gpu() && GetParam().shape.q_dtype == DType::f8e4m3 && !is_hopper()) {
    GTEST_SKIP() << "fp8 queries are for Hopper";
  }
  SCOPED_TRACE(description(GetParam()));
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Drawn, AttentionRandom, testing::ValuesIn(drawn_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace quire::test
