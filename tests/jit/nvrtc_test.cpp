// The real NVRTC, where there is one: kernels compile without a GPU.
#include "jit/nvrtc.h"

#include <gtest/gtest.h>

#include <string>

#include "jit/compiler.h"
#include "jit/scoped_environment.h"
#include "quire/error.h"

namespace quire::jit {
namespace {

KernelSpec scale_spec(const std::string& body = "*p.data *= c.factor;") {
  const std::string text =
      "#include \"tile/thread.h\"\n"
      "namespace quire::kernels {\n"
      "struct ScaleConfig { DType dtype; int factor; };\n"
      "struct ScaleParams { float* data; };\n"
      "template <ScaleConfig c> void scale(const ScaleParams& p) { " +
      body + " }\n}\n";
  return {.name = "scale",
          .header = "scale/scale.cuh",
          .function = "scale",
          .config_type = "ScaleConfig",
          .config = "{.dtype=DType::f32, .factor=3}",
          .params_type = "ScaleParams",
          .extra_headers = {{"scale/scale.cuh", text}}};
}

class NvrtcTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      nvrtc();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

TEST_F(NvrtcTest, CompilesForEveryArchitecture) {
  for (const char* arch : {"sm_80", "sm_90a", "sm_100a", "sm_120a"}) {
    const CompiledKernel kernel = compile(scale_spec(), arch);
    EXPECT_EQ(kernel.image.substr(1, 3), "ELF") << arch;
    EXPECT_GT(kernel.registers, 0) << arch;
    EXPECT_EQ(kernel.spill_bytes, 0) << arch;
    EXPECT_EQ(kernel.local_bytes, 0) << arch;
    EXPECT_EQ(kernel.static_smem_bytes, 0) << arch;
  }
}

TEST_F(NvrtcTest, NoticesLocalMemory) {
  const CompiledKernel kernel = compile(
      scale_spec(
          "float a[64]; for (int i = 0; i < 64; ++i) a[static_cast<int>(p.data[i]) & 63] = i;"
          "*p.data = a[static_cast<int>(*p.data) & 63];"),
      "sm_80");
  EXPECT_GE(kernel.local_bytes, 256);
}

TEST_F(NvrtcTest, ErrorsShowLogAndSource) {
  try {
    compile(scale_spec("no_such_name();"), "sm_80");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile);
    const std::string text = error.what();
    EXPECT_EQ(text.find("scale: NVRTC for sm_80: got"), 0u) << text;
    EXPECT_NE(text.find("no_such_name"), std::string::npos) << text;
    EXPECT_NE(text.find("constexpr ScaleConfig kConfig"), std::string::npos) << text;
  }
}

TEST_F(NvrtcTest, UnknownHeaderAndUnknownTarget) {
  KernelSpec spec = scale_spec();
  spec.header = "absent.cuh";
  EXPECT_THROW(compile(spec, "sm_80"), Error);
  try {
    compile(scale_spec(), "sm_10");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile);
  }
}

TEST_F(NvrtcTest, SaysWhatItIs) {
  EXPECT_EQ(compiler_version().find(compiler_release() + " ("), 0u);
  EXPECT_EQ(compiler_release().find("NVRTC 1"), 0u);
}

TEST(Nvrtc, MissingSaysHowToGetIt) {
  const test::ScopedVariable no_nvrtc("QUIRE_NVRTC", "/nonexistent/libnvrtc.so");
  try {
    compile(scale_spec(), "sm_80");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile);
    const std::string text = error.what();
    for (const char* part :
         {"NVRTC", "/nonexistent/libnvrtc.so", "nvidia-cuda-nvrtc", "QUIRE_NVRTC"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
}

TEST(Nvrtc, AnotherLibraryIsNotTakenForIt) {
  const test::ScopedVariable wrong("QUIRE_NVRTC", "libc.so.6");
  try {
    compiler_version();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::compile);
    EXPECT_NE(std::string(error.what()).find("without nvrtcVersion"), std::string::npos);
  }
}

TEST(Nvrtc, MalformedArchitecture) {
  for (const char* arch : {"", "80", "sm_", "sm_8", "sm_80b", "sm_80aa", "sm_a", "compute_80"}) {
    try {
      compile(scale_spec(), arch);
      ADD_FAILURE() << arch;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << arch;
    }
  }
}

}  // namespace
}  // namespace quire::jit
