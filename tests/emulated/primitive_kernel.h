// Compiles and runs one of the kernels of tests/emulated/primitives/ on the device under test.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "primitives/primitive_types.h"

namespace quire::test {

struct PrimitiveRun {
  std::string header;                 // "warp.cuh"
  std::vector<std::string> includes;  // headers beside it that it includes
  std::string function;               // "shuffles"
  kernels::PrimitiveConfig config{};
  kernels::PrimitiveParams params{};
  int threads = 32;
  int grid_x = 1, grid_y = 1;
  std::size_t smem_bytes = 0;
  int cluster_blocks = 1;
  int launches = 1;  // one after the other
};

// Returns when the kernel has ended. Throws Error.
void run_primitive(const PrimitiveRun& run);

// Primitives exist on the emulator and on a GPU; on the CPU there is nothing to test.
class PrimitiveTest : public testing::Test {
 protected:
  void SetUp() override;
};

// Those that only compute capability 9.0 has: emulator90 or a Hopper GPU.
class HopperTest : public PrimitiveTest {
 protected:
  void SetUp() override;
};

}  // namespace quire::test
