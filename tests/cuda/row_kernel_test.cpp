#include "cuda/row_kernel.h"

#include <gtest/gtest.h>

namespace quire::cuda {
namespace {

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

TEST(RowKernel, AccessIsTheWidestThatDividesAll) {
  EXPECT_EQ(access_bytes({at(0x1000), nullptr}, {0, 256, -48}), 16);
  EXPECT_EQ(access_bytes({at(0x1008)}, {256}), 8);
  EXPECT_EQ(access_bytes({at(0x1000)}, {256, -20}), 4);
  EXPECT_EQ(access_bytes({at(0x1000), at(0x1002)}, {256}), 2);
  EXPECT_EQ(access_bytes({at(0x1000)}, {255}), 1);
  EXPECT_EQ(access_bytes({}, {}), 16);
}

TEST(RowKernel, BlocksHaveWholeWarps) {
  EXPECT_EQ(block_threads(0), 32);
  EXPECT_EQ(block_threads(33), 64);
  EXPECT_EQ(block_threads(128), 128);
  EXPECT_EQ(block_threads(1000000), 256);
}

}  // namespace
}  // namespace quire::cuda
