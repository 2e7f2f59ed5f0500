#include "emulated/primitive_kernel.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "cuda/launch.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

std::string read_header(const std::string& name) {
  const std::string path = std::string(QUIRE_SOURCE_DIR) + "/tests/emulated/primitives/" + name;
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + path);
  return text.str();
}

}  // namespace

void PrimitiveTest::SetUp() {
  if (test_device().is_cpu()) GTEST_SKIP() << "needs QUIRE_TEST_DEVICE=emulator or cuda:N";
}

void HopperTest::SetUp() {
  PrimitiveTest::SetUp();
  if (IsSkipped()) return;
  const cuda::DeviceLimits& limits = cuda::device_limits(test_device().index);
  if (limits.compute_major != 9) {
    GTEST_SKIP() << "needs compute capability 9.0 (emulator90 or a Hopper GPU), the device has "
                 << limits.compute_major << "." << limits.compute_minor;
  }
}

void run_primitive(const PrimitiveRun& run) {
  jit::KernelSpec spec{.name = run.function,
                       .header = run.header,
                       .function = run.function,
                       .config_type = "PrimitiveConfig",
                       .config = jit::config_literal(run.config),
                       .params_type = "PrimitiveParams",
                       .threads_per_block = run.threads,
                       .cluster_blocks = run.cluster_blocks,
                       .dynamic_smem_bytes = run.smem_bytes,
                       .extra_headers = {{run.header, read_header(run.header)},
                                         {"primitive_types.h", read_header("primitive_types.h")}}};
  for (const std::string& header : run.includes) {
    spec.extra_headers.push_back({header, read_header(header)});
  }
  const Device device = test_device();
  const cuda::Kernel& kernel = cuda::get_kernel(spec, device.index);
  for (int i = 0; i < run.launches; ++i) {
    cuda::launch(kernel, static_cast<unsigned>(run.grid_x), static_cast<unsigned>(run.grid_y), {},
                 run.params);
  }
  synchronize(device);
}

}  // namespace quire::test
