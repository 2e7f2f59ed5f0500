// Cascades against attention over the joined tokens of all levels, in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/expect_error.h"
#include "support/poison_shared_memory.h"
#include "support/reference_attention.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Rows and tokens of the groups of one level; of the requests in the last.
struct LevelLens {
  std::vector<int> qo_lens, kv_lens;
};

struct CascadeCase {
  AttentionCase base;  // its own lengths are not used
  std::vector<LevelLens> levels;
};

inline void PrintTo(const CascadeCase& c, std::ostream* out) { *out << c.base.name; }

// The page table of a level.
struct LevelTable {
  std::vector<std::int32_t> qo_indptr{0}, indptr{0}, indices, last_page_len;
};

// Its arrays where they are planned from.
struct LevelArrays {
  TestTensor qo_indptr, indptr, indices, last_page_len;
  CascadeLevel view() const { return {qo_indptr, {indptr, indices, last_page_len}}; }
};

class Cascade {
 public:
  explicit Cascade(const CascadeCase& c, std::uint64_t seed = 1) : case_(c), shape_(c.base.shape) {
    for (const LevelLens& lens : c.levels) add_level(lens);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(num_pages_));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937_64(seed));
    std::size_t next = 0;
    for (LevelTable& table : tables_) {
      for (std::int32_t i = 0; i < table.indptr.back(); ++i) table.indices.push_back(ids[next++]);
    }
    q_ = TestTensor::random({total_q(), shape_.num_qo_heads, shape_.head_dim_qk}, shape_.q_dtype,
                            seed);
    k_ = pool(shape_.head_dim_qk, seed + 1);
    v_ = pool(shape_.head_dim_vo, seed + 2);
    if (c.base.sinks) {
      sinks_ = TestTensor::random({shape_.num_qo_heads}, DType::f32, seed + 3, 2);
    }
    for (std::size_t l = 0; l < tables_.size(); ++l) {
      const LevelTable& t = tables_[l];
      // Ids of one level on the host beside others on the device.
      const bool on_device = c.base.indices_on_device && l % 2 == 0;
      arrays_.push_back({TestTensor::ints(t.qo_indptr, kCpu), TestTensor::ints(t.indptr, kCpu),
                         TestTensor::ints(t.indices, on_device ? test_device() : kCpu),
                         TestTensor::ints(t.last_page_len, kCpu)});
    }
  }

  std::vector<CascadeLevel> levels() const {
    std::vector<CascadeLevel> levels;
    for (const LevelArrays& level : arrays_) levels.push_back(level.view());
    return levels;
  }
  void plan(BatchAttention& attention) const {
    attention.plan_cascade(shape_, levels(), case_.base.plan);
  }
  AttentionOptions options() const {
    AttentionOptions options{.causal = case_.base.causal,
                             .logits_soft_cap = case_.base.logits_soft_cap,
                             .k_scale = case_.base.k_scale,
                             .v_scale = case_.base.v_scale,
                             .lse_base = case_.base.lse_base};
    if (sinks_) options.sinks = *sinks_;
    return options;
  }
  void run(const BatchAttention& attention, const TestTensor& out, const TestTensor& lse,
           const AttentionOptions& options) const {
    attention.run(*q_, {*k_, *v_, shape_.layout}, out, lse, options);
  }
  TestTensor poisoned_out() const {
    return TestTensor::poisoned({total_q(), shape_.num_qo_heads, shape_.head_dim_vo},
                                shape_.o_dtype);
  }
  TestTensor poisoned_lse() const {
    return TestTensor::poisoned({total_q(), shape_.num_qo_heads}, DType::f32);
  }

  AttentionAnswer run() const {
    const auto bytes =
        attention_workspace_bytes(test_device(), shape_, levels(), case_.base.plan);
    const TestTensor workspace =
        TestTensor::poisoned({static_cast<std::int64_t>(bytes)}, DType::u8);
    const TestTensor out = poisoned_out(), lse = poisoned_lse();
    BatchAttention attention(test_device());
    attention.set_workspace(workspace);
    plan(attention);
    poison_shared_memory();
    run(attention, out, lse, options());
    synchronize(test_device());
    EXPECT_TRUE(workspace.guards_intact() && out.guards_intact() && lse.guards_intact());
    return {out.values(), lse.values()};
  }

  AttentionAnswer reference() const {
    const std::vector<double> q = q_->values(), k = k_->values(), v = v_->values();
    const ReferenceOptions options{
        .num_qo_heads = shape_.num_qo_heads,
        .num_kv_heads = shape_.num_kv_heads,
        .head_dim_qk = shape_.head_dim_qk,
        .head_dim_vo = shape_.head_dim_vo,
        .sm_scale = double{case_.base.k_scale} / std::sqrt(double(shape_.head_dim_qk)),
        .logits_soft_cap = case_.base.logits_soft_cap,
        .v_scale = case_.base.v_scale,
        .base_two = case_.base.lse_base == LseBase::two,
        .sinks = sinks_ ? sinks_->values() : std::vector<double>{}};
    AttentionAnswer answer;
    const std::vector<int>& qo_lens = case_.levels.back().qo_lens;
    for (std::size_t r = 0, row = 0; r < qo_lens.size(); ++r) {
      ReferenceRequest request{.qo_len = qo_lens[r]};
      const auto width = static_cast<std::size_t>(shape_.num_qo_heads * shape_.head_dim_qk);
      const auto begin = q.begin() + static_cast<std::ptrdiff_t>(row * width);
      request.q.assign(begin, begin + static_cast<std::ptrdiff_t>(request.qo_len * width));
      for (std::size_t l = 0; l < case_.levels.size(); ++l) {
        const std::size_t g =
            l + 1 == case_.levels.size() ? r : group_of(l, static_cast<int>(row));
        for (int t = 0; t < case_.levels[l].kv_lens[g]; ++t, ++request.kv_len) {
          add_token(request.k, k, kv_row(l, g, t), shape_.head_dim_qk);
          add_token(request.v, v, kv_row(l, g, t), shape_.head_dim_vo);
        }
      }
      if (case_.base.causal) request.mask = causal_mask(request, case_.levels.back().kv_lens[r]);
      row += static_cast<std::size_t>(request.qo_len);
      const ReferenceResult result = reference_attention(request, options);
      answer.out.insert(answer.out.end(), result.out.begin(), result.out.end());
      answer.lse.insert(answer.lse.end(), result.lse.begin(), result.lse.end());
    }
    return answer;
  }

 private:
  // Among the last `own` tokens, all the others are seen.
  static std::vector<bool> causal_mask(const ReferenceRequest& request, int own) {
    std::vector<bool> mask;
    for (int i = 0; i < request.qo_len; ++i) {
      for (int t = own - request.kv_len; t < own; ++t) {
        mask.push_back(t < 0 || t <= own - request.qo_len + i);
      }
    }
    return mask;
  }
  void add_level(const LevelLens& lens) {
    LevelTable table;
    for (std::size_t g = 0; g < lens.qo_lens.size(); ++g) {
      const int kv_len = lens.kv_lens[g];
      const int pages = (kv_len + shape_.page_size - 1) / shape_.page_size;
      table.qo_indptr.push_back(table.qo_indptr.back() + lens.qo_lens[g]);
      table.indptr.push_back(table.indptr.back() + pages);
      table.last_page_len.push_back(pages == 0 ? 0 : kv_len - (pages - 1) * shape_.page_size);
      num_pages_ += pages;
    }
    tables_.push_back(table);
  }
  std::int64_t total_q() const { return tables_.back().qo_indptr.back(); }
  std::size_t group_of(std::size_t level, int row) const {
    const auto& indptr = tables_[level].qo_indptr;
    return static_cast<std::size_t>(std::ranges::upper_bound(indptr, row) - indptr.begin()) - 1;
  }
  // page * page_size + offset
  std::int64_t kv_row(std::size_t level, std::size_t group, int token) const {
    const LevelTable& table = tables_[level];
    const auto entry = static_cast<std::size_t>(table.indptr[group] + token / shape_.page_size);
    return std::int64_t{table.indices[entry]} * shape_.page_size + token % shape_.page_size;
  }
  std::size_t index(std::int64_t row, int head, int width) const {
    const std::int64_t heads = shape_.num_kv_heads, tokens = shape_.page_size;
    if (shape_.layout == KvLayout::nhd) return static_cast<std::size_t>((row * heads + head) * width);
    return static_cast<std::size_t>(((row / tokens * heads + head) * tokens + row % tokens) *
                                    width);
  }
  void add_token(std::vector<double>& to, const std::vector<double>& pool, std::int64_t row,
                 int width) const {
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      const double* from = &pool[index(row, head, width)];
      to.insert(to.end(), from, from + width);
    }
  }
  // NaN where no group has a token.
  TestTensor pool(int width, std::uint64_t seed) const {
    const std::int64_t rows = num_pages_ * shape_.page_size;
    std::vector<double> values(static_cast<std::size_t>(rows * shape_.num_kv_heads * width),
                               std::numeric_limits<double>::quiet_NaN());
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    for (std::size_t l = 0; l < case_.levels.size(); ++l) {
      for (std::size_t g = 0; g < case_.levels[l].kv_lens.size(); ++g) {
        for (int t = 0; t < case_.levels[l].kv_lens[g]; ++t) {
          for (int head = 0; head < shape_.num_kv_heads; ++head) {
            std::generate_n(&values[index(kv_row(l, g, t), head, width)], width,
                            [&] { return normal(engine); });
          }
        }
      }
    }
    const bool nhd = shape_.layout == KvLayout::nhd;
    return TestTensor::from(values,
                            {num_pages_, nhd ? shape_.page_size : shape_.num_kv_heads,
                             nhd ? shape_.num_kv_heads : shape_.page_size, width},
                            shape_.kv_dtype);
  }

  CascadeCase case_;
  AttentionShape shape_;
  std::vector<LevelTable> tables_;
  std::int64_t num_pages_ = 1;  // one that nobody has
  std::optional<TestTensor> q_, k_, v_, sinks_;
  std::vector<LevelArrays> arrays_;
};

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
  add(decode_case("decode_sinks_cap"), [](AttentionCase& c) {
    c.sinks = true, c.logits_soft_cap = 3, c.lse_base = LseBase::two;
  });
  add(decode_case("decode_indices_on_device"),
      [](AttentionCase& c) { c.indices_on_device = true; });
  add(decode_case("decode_kv_f8"), [](AttentionCase& c) {
    c.shape.kv_dtype = DType::f8e4m3, c.k_scale = 0.5f, c.v_scale = 2;
  });
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

TEST(AttentionCascade, RunRefusesWhatDependsOnDistance) {
  const Cascade cascade(decode_case(""));
  BatchAttention attention(test_device());
  cascade.plan(attention);
  const TestTensor out = cascade.poisoned_out(), lse = cascade.poisoned_lse();
  const TestTensor slopes = TestTensor::random({4}, DType::f32, 1);
  const TestTensor mask = TestTensor::bytes({1}), mask_indptr = TestTensor::ints({0});
  const auto run = [&](auto&& change) {
    AttentionOptions options;
    change(options);
    cascade.run(attention, out, lse, options);
  };
  const std::string reason = "the rows of a group differ in their distance to its tokens";
  expect_errors({
      {[&] { run([](AttentionOptions& o) { o.window_left = 3; }); }, ErrorCode::not_implemented,
       "attention.run: window_left: got 3, expected none: " + reason},
      {[&] { run([&](AttentionOptions& o) { o.alibi_slopes = slopes; }); },
       ErrorCode::not_implemented,
       "attention.run: alibi_slopes: got a tensor with a cascade, expected none: " + reason},
      {[&] {
         run([&](AttentionOptions& o) { o.custom_mask = mask, o.mask_indptr = mask_indptr; });
       },
       ErrorCode::not_implemented,
       "attention.run: custom_mask: got a tensor with a cascade, expected none: it has bits for "
       "one level"},
  });
  for (const double x : out.values()) ASSERT_TRUE(std::isnan(x));
}

// Plans with two levels of four rows, of which `spoil` changes something.
void plan_spoiled(BatchAttention& attention,
                  const std::function<void(std::vector<LevelTable>&, AttentionPlanOptions&,
                                           AttentionShape&)>& spoil) {
  AttentionShape shape = AttentionCase{}.shape;
  AttentionPlanOptions options;
  std::vector<LevelTable> tables{{{0, 4}, {0, 2}, {5, 6}, {16}},
                                 {{0, 1, 4}, {0, 1, 2}, {1, 2}, {3, 4}}};
  spoil(tables, options, shape);
  std::vector<LevelArrays> arrays;
  std::vector<CascadeLevel> levels;
  for (const LevelTable& t : tables) {
    arrays.push_back({TestTensor::ints(t.qo_indptr, kCpu), TestTensor::ints(t.indptr, kCpu),
                      TestTensor::ints(t.indices, kCpu), TestTensor::ints(t.last_page_len, kCpu)});
  }
  for (const LevelArrays& level : arrays) levels.push_back(level.view());
  attention.plan_cascade(shape, levels, options);
}

TEST(AttentionCascade, PlanNamesWhatIsWrong) {
  using Tables = std::vector<LevelTable>;
  BatchAttention attention(test_device());
  const auto spoiled = [&](auto&& change) {
    return [&attention, change] {
      plan_spoiled(attention, [&](Tables& t, AttentionPlanOptions& o, AttentionShape& s) {
        change(t, o, s);
      });
    };
  };
  using Options = AttentionPlanOptions;
  using S = AttentionShape;
  const std::string op = "attention.plan_cascade: ";
  const ErrorCode invalid = ErrorCode::invalid_argument, absent = ErrorCode::not_implemented;
  const std::string reason = "the rows of a group differ in their distance to its tokens";
  expect_errors({
      {spoiled([](Tables& t, Options&, S&) { t.clear(); }), invalid,
       op + "levels: got none, expected one or more"},
      {spoiled([](Tables& t, Options&, S&) { t[0].qo_indptr = {0, 3}; }), invalid,
       op + "qo_indptr: got 3 rows of level 0, 4 of level 1, expected the same number"},
      {spoiled([](Tables& t, Options&, S&) {
         t[0] = {{0, 2, 4}, {0, 1, 2}, {5, 6}, {16, 16}};
       }),
       invalid,
       op + "qo_indptr: got 2 at [1] of level 0, expected entries of level 1: groups are of whole "
            "requests"},
      {spoiled([](Tables& t, Options&, S&) { t[1].last_page_len[1] = 17; }), invalid,
       "attention.plan: kv_last_page_len: got 17 at [1], expected 1 to 16, the page_size (level "
       "1)"},
      {spoiled([](Tables& t, Options&, S&) { t[0].indices[1] = -1; }), invalid,
       "attention.plan: kv_indices: got -1 at [1] (request 0), expected page ids of 0 or more "
       "(level 0)"},
      {spoiled([](Tables&, Options&, S& s) { s.page_size = 0; }), invalid,
       "attention.plan: page_size: got 0, expected 1 or more"},
      {spoiled([](Tables&, Options& o, S&) { o.window_left = 4; }), absent,
       op + "window_left: got 4, expected -1: " + reason},
      {spoiled([](Tables&, Options& o, S&) { o.batch_invariant = true; }), absent,
       op + "batch_invariant: got true, expected false: which tokens are shared depends on the "
            "batch"},
  });
  // A good one, to see that it is the change that is refused; and a page that the pool has not.
  plan_spoiled(attention, [](Tables& t, Options&, S&) { t[1].indices[1] = 9; });
  const Shape q_shape{4, 4, 64}, kv_shape{7, 16, 2, 64};
  const TestTensor q = TestTensor::random(q_shape, DType::bf16, 1);
  const TestTensor kv = TestTensor::random(kv_shape, DType::bf16, 2);
  const TestTensor out = TestTensor::poisoned(q_shape, DType::bf16);
  expect_error([&] { attention.run(q, {kv, kv, KvLayout::nhd}, out); }, invalid,
               "attention.run: kv_indices: got 9 at [3] (request 1 of level 1), expected page ids "
               "below 7, the num_pages of k");
}

TEST(AttentionCascade, NotAfterReserve) {
  const Cascade cascade(decode_case(""));
  BatchAttention attention(test_device());
  attention.reserve(AttentionCase{}.shape,
                    {.max_batch_size = 8, .max_total_q = 8, .max_kv_entries = 400});
  expect_error([&] { cascade.plan(attention); }, ErrorCode::not_implemented,
               "attention.plan_cascade: reservation: got one, expected none: it has no room for "
               "levels");
}

}  // namespace
}  // namespace quire::test
