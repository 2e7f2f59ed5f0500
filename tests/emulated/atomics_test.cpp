#include <bit>
#include <cstdint>
#include <numeric>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Atomics : public PrimitiveTest {};

TEST_F(Atomics, LoseNothing) {
  constexpr int kThreads = 96, kBlocks = 5, kAll = kThreads * kBlocks;
  const TestTensor out = TestTensor::ints({0, 0, 0, 0, 1000, -1000, 0});
  const TestTensor seen = TestTensor::ints(std::vector<std::int32_t>(kAll, 0));
  run_primitive({.header = "atomics.cuh",
                 .function = "atomics",
                 .params = {.b = seen.view().data, .out = out.view().data},
                 .threads = kThreads,
                 .grid_x = kBlocks});
  const std::vector<double> got = out.values();
  const int sum = kAll * (kAll - 1) / 2 - 100 * kAll;
  EXPECT_EQ(got[0], kAll);
  EXPECT_EQ(got[1], sum);
  // 480 * (2^31 + 1) modulo 2^32: an even number of the high bit.
  EXPECT_EQ(got[2], kAll);
  EXPECT_EQ(std::bit_cast<float>(static_cast<std::int32_t>(got[3])), static_cast<float>(sum));
  EXPECT_EQ(got[4], -100);
  EXPECT_EQ(got[5], kAll - 101);
  EXPECT_EQ(got[6], -1);  // the largest unsigned one
  // Every value from 0 on was returned once: the first atomic's results are all different.
  EXPECT_EQ(seen.values(), std::vector<double>(kAll, 1));
}

TEST_F(Atomics, TheLastBlockSeesWhatAllWrote) {
  constexpr int kBlocks = 37;
  const TestTensor out = TestTensor::ints({0, 0});
  const TestTensor numbers = TestTensor::ints(std::vector<std::int32_t>(kBlocks, 0));
  for (int run = 0; run < 2; ++run) {  // the counter begins again by itself
    run_primitive({.header = "atomics.cuh",
                   .function = "count_blocks",
                   .config = {.n = kBlocks},
                   .params = {.b = numbers.view().data, .out = out.view().data},
                   .threads = 32,
                   .grid_x = kBlocks,
                   .smem_bytes = 16});
    EXPECT_EQ(out.values(), (std::vector<double>{0, kBlocks * (kBlocks + 1) / 2}));
  }
}

}  // namespace
}  // namespace quire::test
