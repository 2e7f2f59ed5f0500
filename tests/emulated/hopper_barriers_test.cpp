#include <vector>

#include "emulated/primitive_kernel.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class HopperBarriers : public HopperTest {};

TEST_F(HopperBarriers, ParitiesOfPhases) {
  const TestTensor out = TestTensor::poisoned({6}, DType::i32);
  run_primitive({.header = "barriers.cuh",
                 .function = "mbarrier_parities",
                 .params = {.out = out.view().data},
                 .smem_bytes = 8});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 1, 0, 1, 0, 1}));
}

void test_ring(int mode) {
  constexpr int kRounds = 9;
  std::vector<double> numbers(32 * kRounds);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<double>(100 * (i / 32) + i % 32);
  }
  const TestTensor a = TestTensor::from(numbers, {kRounds, 32}, DType::i32);
  const TestTensor out = TestTensor::poisoned({kRounds, 2, 32}, DType::i32);
  run_primitive({.header = "barriers.cuh",
                 .function = "mbarrier_ring",
                 .config = {.n = kRounds, .mode = mode},
                 .params = {.a = a.view().data, .out = out.view().data},
                 .threads = 96,
                 .smem_bytes = 512});
  const std::vector<double> got = out.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], 100 * (i / 64) + (i % 32 + 1) % 32) << i;
  }
}

TEST_F(HopperBarriers, RingWithWaits) { test_ring(0); }
TEST_F(HopperBarriers, RingWithPolling) { test_ring(1); }

TEST_F(HopperBarriers, RingOfCopies) { test_ring(2); }

TEST_F(HopperBarriers, GroupsTakeTurns) {
  constexpr int kRounds = 6;
  const TestTensor out = TestTensor::poisoned({32}, DType::i32);
  run_primitive({.header = "barriers.cuh",
                 .function = "take_turns",
                 .config = {.n = kRounds},
                 .params = {.out = out.view().data},
                 .threads = 64,
                 .smem_bytes = 128});
  int expected = 0;
  for (int round = 0; round < kRounds; ++round) expected = 9 * expected + 1;
  EXPECT_EQ(out.values(), std::vector<double>(32, expected));
}

TEST_F(HopperBarriers, RegistersMove) {
  const TestTensor out = TestTensor::poisoned({12}, DType::i32);
  run_primitive({.header = "barriers.cuh",
                 .function = "move_registers",
                 .params = {.out = out.view().data},
                 .threads = 384});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
}

}  // namespace
}  // namespace quire::test
