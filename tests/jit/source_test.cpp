#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "jit/embedded_sources.h"
#include "jit/kernel_spec.h"
#include "jit/source_files.h"

namespace quire::kernels {

enum class Mode : u8 { slow, fast };
constexpr const char* literal(Mode mode) {
  return mode == Mode::fast ? "Mode::fast" : "Mode::slow";
}

struct SampleConfig {
  DType dtype = DType::bf16;
  Mode mode = Mode::fast;
  i32 tile = -3;
  bool aligned = true;
};

template <class Visitor>
constexpr void visit_fields(const SampleConfig& c, Visitor&& visit) {
  visit("dtype", c.dtype);
  visit("mode", c.mode);
  visit("tile", c.tile);
  visit("aligned", c.aligned);
}

struct EmptyConfig {};
template <class Visitor>
constexpr void visit_fields(const EmptyConfig&, Visitor&&) {}

}  // namespace quire::kernels

namespace quire::jit {
namespace {

TEST(ConfigLiteral, NamesEveryField) {
  EXPECT_EQ(config_literal(kernels::SampleConfig{}),
            "{.dtype=DType::bf16, .mode=Mode::fast, .tile=-3, .aligned=true}");
  EXPECT_EQ(config_literal(kernels::EmptyConfig{}), "{}");
}

TEST(GenerateSource, IsOneIncludeOneConfigOneEntry) {
  const KernelSpec spec{.name = "rms_norm_kernel",
                        .header = "norm/rms_norm.cuh",
                        .function = "rms_norm",
                        .config_type = "RmsNormConfig",
                        .config = "{.dtype=DType::bf16}",
                        .params_type = "RmsNormParams",
                        .threads_per_block = 256,
                        .min_blocks_per_sm = 2};
  EXPECT_EQ(generate_source(spec),
            "#include \"norm/rms_norm.cuh\"\n"
            "#include \"tile/launch_order.h\"\n"
            "using namespace quire::kernels;\n"
            "constexpr RmsNormConfig kConfig{.dtype=DType::bf16};\n"
            "extern \"C\" __global__ void __launch_bounds__(256, 2) "
            "rms_norm_kernel(const __grid_constant__ RmsNormParams params) {\n"
            "  quire::tile::wait_for_kernels_before();\n"
            "  quire::tile::let_next_kernel_start();\n"
            "  quire::kernels::rms_norm<kConfig>(params);\n"
            "}\n");
}

TEST(GenerateSource, LeavesTheOrderToKernelsThatSeeToIt) {
  const KernelSpec spec{.name = "merge", .function = "merge", .orders_itself = true};
  EXPECT_NE(generate_source(spec).find("params) {\n  quire::kernels::merge<kConfig>(params);\n}"),
            std::string::npos);
}

TEST(GenerateSource, NamesTheSizeOfClusters) {
  const KernelSpec spec{.name = "sample", .threads_per_block = 512, .cluster_blocks = 8};
  EXPECT_NE(generate_source(spec).find("void __cluster_dims__(8, 1, 1) __launch_bounds__(512, 1) "),
            std::string::npos);
}

TEST(EmbeddedSources, AreTheKernelFolder) {
  std::set<std::string_view> paths;
  for (const EmbeddedSource& source : embedded_sources()) {
    EXPECT_TRUE(paths.insert(source.path).second) << source.path;
    EXPECT_NE(source.text.find("#pragma once"), source.text.npos) << source.path;
  }
  EXPECT_TRUE(paths.contains("dtype.h"));
  EXPECT_TRUE(paths.contains("tile/warp.h"));
}

bool reaches(const KernelSpec& spec, std::string_view path) {
  const auto sources = reachable_sources(spec);
  return std::ranges::count(sources, path, &EmbeddedSource::path) == 1;
}

TEST(ReachableSources, FollowIncludesOnce) {
  const KernelSpec spec{.header = "top.cuh",
                        .extra_headers = {{"top.cuh", "#include \"a.h\"\n#include \"b.h\"\n"},
                                          {"a.h", "#include \"tile/warp.h\"\n"},
                                          {"b.h", "#include \"a.h\"\n#include \"absent.h\"\n"},
                                          {"unused.h", "#include \"dtype.h\"\n"}}};
  for (const char* path : {"top.cuh", "tile/launch_order.h", "a.h", "b.h", "tile/warp.h",
                           "tile/thread.h", "dtype.h"}) {
    EXPECT_TRUE(reaches(spec, path)) << path;
  }
  for (const char* path : {"unused.h", "absent.h", "tile/mma.h"}) {
    EXPECT_FALSE(reaches(spec, path)) << path;
  }
}

TEST(ReachableSources, TheSpecsOwnHeadersComeFirst) {
  const KernelSpec spec{.header = "dtype.h", .extra_headers = {{"dtype.h", "mine"}}};
  const auto sources = reachable_sources(spec);
  ASSERT_TRUE(reaches(spec, "dtype.h"));
  EXPECT_EQ(std::ranges::find(sources, "dtype.h", &EmbeddedSource::path)->text, "mine");
}

}  // namespace
}  // namespace quire::jit
