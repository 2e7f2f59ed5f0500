// Custom attention variants by the real NVRTC, where there is one: they compile without spills, and
// its messages name the snippet and its lines.
#include "cuda/attention_variant.h"

#include <gtest/gtest.h>

#include <string>

#include "cuda/attention_config.h"
#include "jit/compiler.h"
#include "jit/nvrtc.h"
#include "quire/error.h"
#include "support/attention_variants.h"

namespace quire::test {
namespace {

jit::KernelSpec variant_spec(const AttentionVariant& variant, double mean_packed_rows) {
  const kernels::AttentionConfig shape{.variant = kernels::VariantKind::custom,
                                       .softmax = variant.softmax};
  const kernels::AttentionConfig config =
      cuda::attention_choices({.shape = shape, .mean_packed_rows = mean_packed_rows})
          .front()
          .config;
  jit::KernelSpec spec{
      .name = "attention_sm80",
      .header = "attention/attention_sm80.cuh",
      .function = "attention_sm80",
      .config_type = "AttentionConfig",
      .config = jit::config_literal(config),
      .params_type = "AttentionParams",
      .threads_per_block = cuda::attention_threads(config),
      .dynamic_smem_bytes = static_cast<std::size_t>(cuda::attention_smem_bytes(config))};
  cuda::add_variant(spec, variant);
  return spec;
}

class VariantByNvrtc : public testing::Test {
 protected:
  void SetUp() override {
    try {
      jit::nvrtc();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

TEST_F(VariantByNvrtc, CompilesWithoutSpills) {
  for (const VariantCase& c : {alibi_variant(8), soft_cap_variant(), sigmoid_variant(2),
                               global_window_variant(), every_argument_variant(2, 2, 2)}) {
    for (const char* arch : {"sm_80", "sm_90a"}) {
      for (const double rows : {1., 1024.}) {
        SCOPED_TRACE(c.variant.name + " for " + arch);
        const jit::CompiledKernel kernel = jit::compile(variant_spec(c.variant, rows), arch);
        EXPECT_EQ(kernel.spill_bytes, 0);
        EXPECT_EQ(kernel.local_bytes, 0);
        RecordProperty(c.variant.name + "_" + arch + (rows > 1 ? "_prefill" : "_decode"),
                       kernel.registers);
      }
    }
  }
}

TEST_F(VariantByNvrtc, ErrorsNameTheSnippetAndItsLine) {
  AttentionVariant variant = soft_cap_variant().variant;
  variant.source =
      "struct Variant {\n"
      "  static float logits(const Arguments& args, const QueryRow&, float score, int) {\n"
      "    return args.cup * score;\n"
      "  }\n"
      "};";
  try {
    jit::compile(variant_spec(variant, 1), "sm_90a");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile);
    const std::string text = error.what();
    EXPECT_EQ(text.find("attention_sm80_soft_cap: NVRTC for sm_90a: got"), 0u) << text;
    EXPECT_NE(text.find("variants/soft_cap.h(3): error"), std::string::npos) << text;
    EXPECT_NE(text.find("cup"), std::string::npos) << text;
  }
}

TEST(VariantKey, FollowsSourceArgumentsAndSoftmax) {
  const AttentionVariant base = soft_cap_variant().variant;
  const auto key = [](const AttentionVariant& variant) {
    std::string text;
    const jit::KernelSpec spec = variant_spec(variant, 1);
    for (const jit::VirtualHeader& header : spec.extra_headers) text += header.name + header.text;
    return spec.name + spec.header + spec.config + text;
  };
  AttentionVariant other = base;
  EXPECT_EQ(key(other), key(base));
  other.source += " ";
  EXPECT_NE(key(other), key(base));
  other = base;
  other.scalars[0].dtype = DType::i32;
  EXPECT_NE(key(other), key(base));
  other = base;
  other.softmax = false;
  EXPECT_NE(key(other), key(base));
}

}  // namespace
}  // namespace quire::test
