// Custom attention variants against the double reference, and what is said about bad ones. They run
// on CUDA, so here on the emulator; the CPU refuses them.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/expect_error.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

constexpr ErrorCode kInvalid = ErrorCode::invalid_argument;
constexpr ErrorCode kWrongType = ErrorCode::wrong_type;

constexpr int kHeads = 8, kKvHeads = 2;  // groups of 4
constexpr int kMaxQoLen = 40, kMaxKvLen = 170;

// Decode tile and prefill tile, empty q and empty KV, paged and ragged, whole and split.
std::vector<AttentionCase> batches(const std::string& name, const VariantCase& variant) {
  std::vector<AttentionCase> cases;
  const auto add = [&](const std::string& kind, bool prefill, auto&& change) {
    AttentionCase c{.name = name + "_" + kind};
    c.shape.num_qo_heads = kHeads;
    c.shape.num_kv_heads = kKvHeads;
    c.variant = variant;
    c.with_lse = variant.variant.softmax;
    c.qo_lens = prefill ? std::vector<int>{1, kMaxQoLen, 0, 3, 20} : std::vector<int>{1, 1, 1};
    c.kv_lens = prefill ? std::vector<int>{77, 70, 4, 0, 33} : std::vector<int>{kMaxKvLen, 5, 0};
    c.causal = prefill;
    change(c);
    cases.push_back(c);
  };
  add("decode", false, [](AttentionCase&) {});
  add("decode_split_ragged", false, [](AttentionCase& c) {
    c.plan.fixed_split_size = 48;
    c.shape.page_size = 0;
    c.lse_base = LseBase::two;
    c.v_scale = 2;
  });
  add("prefill", true, [](AttentionCase& c) { c.sm_scale = 0.3f; });
  add("prefill_split", true, [](AttentionCase& c) {
    c.plan.fixed_split_size = 16;
    c.causal = false;
    c.window_left = 30;
  });
  add("prefill_ragged", true, [](AttentionCase& c) {
    c.shape.page_size = 0;
    c.custom_mask = c.alibi = true;
    c.logits_soft_cap = 2;
    c.v_scale = 0.5f;
  });
  return cases;
}

std::vector<AttentionCase> all_cases() {
  std::vector<AttentionCase> cases;
  const auto add = [&cases](const std::string& name, const VariantCase& variant) {
    for (const AttentionCase& c : batches(name, variant)) cases.push_back(c);
  };
  add("alibi", alibi_variant(kHeads));
  add("soft_cap", soft_cap_variant());
  add("sigmoid", sigmoid_variant(kKvHeads));
  add("global_window", global_window_variant());
  add("every_argument", every_argument_variant(5, kMaxQoLen, kMaxKvLen));
  for (AttentionCase c : batches("learned_sink", soft_cap_variant())) {
    c.sinks = true;  // the option joins any variant
    cases.push_back(c);
  }
  for (const VariantCase& variant : {soft_cap_variant(), sigmoid_variant(kKvHeads)}) {
    for (AttentionCase c : batches("fp8_cache_" + variant.variant.name, variant)) {
      c.shape.kv_dtype = DType::f8e4m3;
      c.head_scales = true;
      cases.push_back(c);
    }
  }
  if (!wants_hopper() && !on_gpu()) return cases;  // no fp8 queries
  for (AttentionCase c : batches("fp8_queries", global_window_variant())) {
    c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
    c.head_scales = true;
    cases.push_back(c);
  }
  return cases;
}

class Variants : public testing::TestWithParam<AttentionCase> {};

TEST_P(Variants, AgreeWithReference) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  if (GetParam().shape.q_dtype == DType::f8e4m3 && !is_hopper()) {
    GTEST_SKIP() << "fp8 queries are for Hopper";
  }
  const AttentionBatch batch(GetParam());
  expect_near(batch.run(), batch.reference(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, Variants, testing::ValuesIn(all_cases()),
                         [](const auto& each) { return each.param.name; });

AttentionCase good_case() {
  AttentionCase c{.qo_lens = {1, 2}, .kv_lens = {20, 7}};
  c.shape.num_qo_heads = kHeads;
  c.shape.num_kv_heads = kKvHeads;
  c.variant = alibi_variant(kHeads);
  return c;
}

TEST(AttentionVariant, AgreesWithTheBuiltInOption) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  AttentionCase c = good_case();
  AttentionCase built_in = c;
  built_in.variant = {};
  const AttentionAnswer custom = AttentionBatch(c).run();
  const AttentionAnswer plain = AttentionBatch(built_in).run();
  EXPECT_GT(relative_error(custom.out, plain.out), 0.05);  // the snippet does something

  const TestTensor slopes = TestTensor::from(c.variant->tensors[0], {kHeads}, DType::f32);
  const AttentionBatch batch(built_in);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  AttentionOptions options = batch.options();
  options.alibi_slopes = slopes;
  attention.run(batch.q(), batch.kv(), out, {}, options);
  synchronize(test_device());
  EXPECT_LE(relative_error(out.values(), custom.out), 3e-3);
}

TEST(AttentionVariant, TheCpuSaysWhyNot) {
  if (test_device().is_cuda()) GTEST_SKIP() << "is about the CPU";
  const AttentionBatch batch(good_case());
  BatchAttention attention(test_device());
  expect_error([&] { batch.plan(attention); }, ErrorCode::not_implemented,
               "attention.plan: variant: got \"alibi\" on cpu, expected a CUDA device: the snippet "
               "is compiled into a GPU kernel");
}

struct BadVariant {
  std::function<void(AttentionVariant&)> spoil;
  ErrorCode code;
  std::string text;
};

TEST(AttentionVariant, BadDeclarationsAreNamed) {
  const std::string identifier =
      "expected a C++ identifier of at most 64 characters, without a double underscore";
  const std::vector<BadVariant> rows = {
      {[](AttentionVariant& v) { v.name = ""; }, kInvalid, "variant.name: got \"\", " + identifier},
      {[](AttentionVariant& v) { v.name = "../alibi"; }, kInvalid,
       "variant.name: got \"../alibi\", " + identifier},
      {[](AttentionVariant& v) { v.name = "a__b"; }, kInvalid,
       "variant.name: got \"a__b\", " + identifier},
      {[](AttentionVariant& v) { v.source = ""; }, kInvalid,
       "variant.source: got an empty text, expected C++ code"},
      {[](AttentionVariant& v) { v.tensors[0].name = "float"; }, kInvalid,
       "variant.tensors: got \"float\", " + identifier},
      {[](AttentionVariant& v) { v.scalars = {{"2x", DType::f32}}; }, kInvalid,
       "variant.scalars: got \"2x\", " + identifier},
      {[](AttentionVariant& v) { v.scalars = {{"slopes", DType::f32}}; }, kInvalid,
       "variant: got two arguments called \"slopes\", expected a name of its own for each"},
      {[](AttentionVariant& v) { v.tensors[0].dtype = DType::i64; }, kWrongType,
       "variant.tensors.slopes: got i64, expected f32 or f16 or bf16 or i32 or u8"},
      {[](AttentionVariant& v) { v.scalars = {{"x", DType::f16}}; }, kWrongType,
       "variant.scalars.x: got f16, expected f32 or i32"},
      {[](AttentionVariant& v) {
         for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
           v.tensors.push_back({name, DType::f32});
         }
       },
       kInvalid, "variant.tensors: got 9, expected at most 8"}};
  for (const BadVariant& row : rows) {
    AttentionCase c = good_case();
    row.spoil(c.variant->variant);
    const AttentionBatch batch(c);
    BatchAttention attention(test_device());
    expect_error([&] { batch.plan(attention); }, row.code, "attention.plan: " + row.text);
  }
}

struct BadValues {
  std::function<void(AttentionOptions&)> spoil;
  ErrorCode code;
  std::string text;
};

TEST(AttentionVariant, BadValuesAreNamedAndWriteNothing) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  AttentionCase c = good_case();
  c.variant = every_argument_variant(2, 2, 20);
  const AttentionBatch batch(c);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  const std::vector<BadValues> rows = {
      {[](AttentionOptions& o) { o.variant_tensors.pop_back(); }, kInvalid,
       "variant_tensors: got 3, expected 4, as the planned variant declares: token_bias, row_bias, "
       "kinds, hidden"},
      {[](AttentionOptions& o) { o.variant_scalars.clear(); }, kInvalid,
       "variant_scalars: got 0, expected 2, as the planned variant declares: factor, flag"},
      {[](AttentionOptions& o) { o.variant_scalars[1] = 0.5; }, kInvalid,
       "variant_scalars.flag: got 0.5, expected a whole number of 32 bits"},
      {[](AttentionOptions& o) { o.variant_scalars[0] = NAN; }, kInvalid,
       "variant_scalars.factor: got nan, expected a number"},
      {[](AttentionOptions& o) { o.variant_tensors[0].dtype = DType::f16; }, kWrongType,
       "variant_tensors.token_bias: got f16, expected bf16"},
      {[](AttentionOptions& o) { o.variant_tensors[2].strides[0] = 2; }, kInvalid,
       "variant_tensors.kinds: got strides [2] for shape [2], expected a contiguous tensor"},
      {[](AttentionOptions& o) { o.variant_tensors[3].data = nullptr; }, kInvalid,
       "variant_tensors.hidden: got a null pointer, expected memory for shape [20]"},
  };
  for (const BadValues& row : rows) {
    AttentionOptions options = batch.options();
    row.spoil(options);
    expect_error([&] { attention.run(batch.q(), batch.kv(), out, {}, options); }, row.code,
                 "attention.run: " + row.text);
    for (const double x : out.values()) ASSERT_TRUE(std::isnan(x)) << row.text;
  }
}

TEST(AttentionVariant, ValuesNeedAVariantInThePlan) {
  AttentionCase c = good_case();
  c.variant = {};
  const AttentionBatch batch(c);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  AttentionOptions options;
  options.variant_scalars = {1};
  expect_error([&] { attention.run(batch.q(), batch.kv(), out, {}, options); }, kInvalid,
               "attention.run: variant_scalars: got 1, expected none: the plan has no variant");
}

TEST(AttentionVariant, WithoutSoftmaxThereIsNoLseAndNoSink) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  AttentionCase c = good_case();
  c.variant = sigmoid_variant(kKvHeads);
  c.sinks = true;
  const AttentionBatch batch(c);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  const TestTensor lse = TestTensor::poisoned(batch.lse_shape(), DType::f32);
  BatchAttention attention(test_device());
  batch.plan(attention);
  AttentionOptions options = batch.options();
  expect_error([&] { attention.run(batch.q(), batch.kv(), out, {}, options); }, kInvalid,
               "attention.run: sinks: got a tensor, expected none: variant \"sigmoid\" has no "
               "softmax");
  options.sinks.reset();
  expect_error([&] { attention.run(batch.q(), batch.kv(), out, lse.view(), options); }, kInvalid,
               "attention.run: lse: got a tensor, expected none: variant \"sigmoid\" has no "
               "softmax");
}

// What the compiler says, with the snippet's own lines.
std::string compile_error(const std::string& source) {
  AttentionCase c = good_case();
  c.variant->variant.source = source;
  const AttentionBatch batch(c);
  BatchAttention attention(test_device());
  try {
    batch.plan(attention);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(AttentionVariant, CompilerMessagesNameTheSnippetAndItsLine) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  // g++ writes file:line, NVRTC file(line).
  const auto names_line = [](const std::string& text, const std::string& line) {
    return text.find("variants/alibi.h:" + line) != text.npos ||
           text.find("variants/alibi.h(" + line + ")") != text.npos;
  };
  const std::string unknown = compile_error(
      "struct Variant {\n"
      "  static float logits(const Arguments& args, const QueryRow& row, float score, int) {\n"
      "    return score + args.slope[row.qo_head];\n"
      "  }\n"
      "};\n");
  EXPECT_TRUE(names_line(unknown, "3")) << unknown;
  EXPECT_NE(unknown.find("slope"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("_alibi"), std::string::npos) << unknown;

  const std::string few = compile_error(
      "struct Variant {\n"
      "  static float logits(float score) { return score; }\n"
      "};\n");
  EXPECT_NE(few.find("logits"), std::string::npos) << few;

  const std::string nothing = compile_error("struct Variant {};\n");
  EXPECT_NE(nothing.find("struct Variant has neither logits() nor visible()"), std::string::npos)
      << nothing;
}

TEST(AttentionVariant, IsAskedAboutRowsAndTokensOfTheRequestOnly) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  AttentionCase c = good_case();
  c.qo_lens = {1, 40, 0, 3};
  c.kv_lens = {70, 45, 4, 1};  // the last with rows before the first token
  c.causal = true;
  c.variant = VariantCase{.variant = {.name = "witness",
                                      .source = R"(struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token) {
    const bool known = row.request >= 0 && row.request < 4 && row.token >= 0 &&
                       row.token < row.qo_len && row.qo_head >= 0 && row.qo_head < 8 &&
                       row.kv_head == row.qo_head / 4 && kv_token >= 0 && kv_token < row.kv_len &&
                       row.position == row.kv_len - row.qo_len + row.token;
    if (!known) const_cast<int&>(args.strange[0]) = 1;
    const_cast<int&>(args.strange[1]) = 1;
    return score;
  }
};)",
                                      .tensors = {{"strange", DType::i32}}},
                          .tensors = {{0, 0}}};
  const AttentionBatch batch(c);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  const TestTensor strange = TestTensor::ints({0, 0});
  AttentionOptions options = batch.options();
  options.variant_tensors = {strange};
  attention.run(batch.q(), batch.kv(), out, {}, options);
  synchronize(test_device());
  EXPECT_EQ(strange.values(), (std::vector<double>{0, 1}));
}

TEST(AttentionVariant, ANewSourceIsANewKernel) {
  if (test_device().is_cpu()) GTEST_SKIP() << "variants run on CUDA";
  AttentionCase c = good_case();
  const auto answer = [&c](const std::string& logit) {
    c.variant->variant.source =
        "struct Variant {\n"
        "  static float logits(const Arguments&, const QueryRow&, float score, int kv_token) {\n"
        "    return " +
        logit + ";\n  }\n};\n";
    return AttentionBatch(c).run();
  };
  const AttentionAnswer one = answer("score"), two = answer("score * 2.f");
  EXPECT_NE(one.out, two.out);
  c.variant = {};
  c.sm_scale = 2.f / 8.f;  // head_dim_qk 64
  const AttentionAnswer doubled = AttentionBatch(c).run();
  EXPECT_LE(relative_error(two.out, doubled.out), 3e-3);
}

}  // namespace
}  // namespace quire::test
