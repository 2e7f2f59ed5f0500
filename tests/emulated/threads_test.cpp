#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Threads : public PrimitiveTest {};

TEST_F(Threads, KnowTheirPlaces) {
  constexpr int kThreads = 70, kGridX = 3, kGridY = 2;  // the last warp is not full
  const TestTensor out = TestTensor::poisoned({kGridY, kGridX, kThreads, 9}, DType::i32);
  run_primitive({.header = "threads.cuh",
                 .function = "thread_places",
                 .params = {.out = out.view().data},
                 .threads = kThreads,
                 .grid_x = kGridX,
                 .grid_y = kGridY,
                 .smem_bytes = 4});
  const std::vector<double> got = out.values();
  std::size_t at = 0;
  for (int y = 0; y < kGridY; ++y) {
    for (int x = 0; x < kGridX; ++x) {
      for (int thread = 0; thread < kThreads; ++thread) {
        for (const int expected : {thread, thread % 32, thread / 32, kThreads, x, y, kGridX, kGridY,
                                   /*misalignment*/ 0}) {
          ASSERT_EQ(got[at], expected) << "element " << at;
          ++at;
        }
      }
    }
  }
  EXPECT_TRUE(out.guards_intact());
}

// Each round takes the number of the next of `group` threads, plus one.
void expect_passed_around(const TestTensor& out, int rounds, int threads, int group) {
  const std::vector<double> got = out.values();
  for (int round = 0; round < rounds; ++round) {
    for (int thread = 0; thread < threads; ++thread) {
      const int first = thread / group * group;
      const int expected = first + (thread - first + round + 1) % group + round + 1;
      ASSERT_EQ(got[static_cast<std::size_t>(round * threads + thread)], expected);
    }
  }
}

TEST_F(Threads, BlockBarrierOrdersSharedMemory) {
  constexpr int kThreads = 160, kRounds = 5;
  const TestTensor out = TestTensor::poisoned({kRounds, kThreads}, DType::i32);
  run_primitive({.header = "threads.cuh",
                 .function = "pass_around_block",
                 .config = {.n = kRounds},
                 .params = {.out = out.view().data},
                 .threads = kThreads,
                 .smem_bytes = 4 * kThreads});
  expect_passed_around(out, kRounds, kThreads, kThreads);
}

TEST_F(Threads, WarpBarrierOrdersSharedMemory) {
  constexpr int kThreads = 96, kRounds = 5;
  const TestTensor out = TestTensor::poisoned({kRounds, kThreads}, DType::i32);
  run_primitive({.header = "threads.cuh",
                 .function = "pass_around_warp",
                 .config = {.n = kRounds},
                 .params = {.out = out.view().data},
                 .threads = kThreads,
                 .smem_bytes = 4 * kThreads});
  expect_passed_around(out, kRounds, kThreads, 32);
}

TEST_F(Threads, KernelsSeeWhatThoseBeforeWrote) {
  constexpr int kThreads = 64, kBlocks = 5, kCount = kThreads * kBlocks, kLaunches = 40;
  const TestTensor out = TestTensor::ints(std::vector<std::int32_t>(3 * kCount, 0));
  run_primitive({.header = "threads.cuh",
                 .function = "pass_around_launches",
                 .params = {.out = out.view().data},
                 .threads = kThreads,
                 .grid_x = kBlocks,
                 .launches = kLaunches});
  const std::vector<double> got = out.values();
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(got[i], kLaunches) << "element " << i;
    ASSERT_EQ(got[kCount + i], kLaunches - 1) << "element " << i;
  }
}

}  // namespace
}  // namespace quire::test
