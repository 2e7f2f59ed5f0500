// What the emulator must notice: kernels that are wrong on purpose (primitives/faults.cuh).
#include <cmath>
#include <cstdlib>
#include <string>

#include "emulated/primitive_kernel.h"
#include "quire/error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

constexpr int kThreads = 64;

class Detections : public testing::Test {
 protected:
  void SetUp() override {
    if (!is_emulated()) GTEST_SKIP() << "needs QUIRE_TEST_DEVICE=emulator";
  }
};

std::vector<double> run(const std::string& function, int n = 0, int threads = kThreads) {
  std::vector<double> numbers(4 * kThreads);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
  const TestTensor a = TestTensor::from(numbers, {4 * kThreads}, DType::f32);
  const TestTensor out = TestTensor::poisoned({kThreads}, DType::f32);
  run_primitive({.header = "faults.cuh",
                 .function = function,
                 .config = {.n = n},
                 .params = {.a = a.view().data, .out = out.view().data},
                 .threads = threads,
                 .smem_bytes = 1024});
  return out.values();
}

void expect_fault(const std::string& function, const std::vector<std::string>& parts,
                  int threads = kThreads) {
  try {
    run(function, 0, threads);
    ADD_FAILURE() << function << " went unnoticed";
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::driver));
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "no \"" << part << "\" in: " << error.what();
    }
  }
  // The next kernel is not disturbed.
  EXPECT_EQ(run("early_read", 2)[5], 20);
}

TEST_F(Detections, DivergentPlaces) {
  expect_fault("divergent_shuffle",
               {"divergent_shuffle: block (0, 0): thread 16: divergence: calls "
                "shuffle at ",
                "faults.cuh:", "while thread 0 of its warp waits in shuffle"});
}

TEST_F(Detections, DivergentCollectives) {
  expect_fault("divergent_collective", {"thread 16: divergence: calls ballot at ",
                                        "while thread 0 of its warp waits in shuffle at "});
}

TEST_F(Detections, ThreadThatLeftBeforeABarrier) {
  expect_fault("missing_thread", {"deadlock: threads 0-39, 41-63 wait in sync_block at ",
                                  "threads 40 have returned"});
}

TEST_F(Detections, CrossedWaits) {
  expect_fault("crossed_waits",
               {"deadlock: threads 0 wait in sync_block at ", "threads 1-31 wait in shuffle at ",
                "threads 32-63 have returned"});
}

TEST_F(Detections, CollectiveInPartOfAWarp) {
  expect_fault("partial_warp", {"calls shuffle at ", "in a warp of only 20 threads"}, 20);
}

TEST_F(Detections, MisalignedCopy) {
  expect_fault("misaligned_copy",
               {"cp_async::copy16: destination at ", "is not aligned to 16 bytes"});
}

TEST_F(Detections, MatrixOutsideSharedMemory) {
  expect_fault("matrix_outside",
               {"thread 31: ldmatrix: row at ",
                "outside the block's 1024 bytes of shared memory, at offset 1024"});
}

TEST_F(Detections, CopyToGlobalMemory) {
  expect_fault("copy_to_global", {"cp_async::copy16: destination at ",
                                  "outside the block's 1024 bytes of shared memory"});
}

TEST_F(Detections, WriteBehindSharedMemory) {
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(run("write_behind"), "AddressSanitizer: use-after-poison");
#else
  expect_fault("write_behind", {"wrote behind its 1024 bytes of shared memory"});
#endif
}

TEST_F(Detections, ReadBeforeTheCopyLanded) {
  for (const int n : {0, 1}) {
    for (const double x : run("early_read", n)) EXPECT_TRUE(std::isnan(x));
  }
  const std::vector<double> right = run("early_read", 2);
  for (std::size_t i = 0; i < right.size(); ++i) EXPECT_EQ(right[i], static_cast<double>(4 * i));
}

TEST_F(Detections, UnwrittenSharedMemory) {
  for (const double x : run("unwritten_shared")) EXPECT_TRUE(std::isnan(x));
}

#if defined(__SANITIZE_THREAD__)
// Runs in a process of its own: the sanitizer's report ends it with code 66.
void expect_race(const std::string& function, int n) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        run(function, n);
        std::exit(0);
      },
      testing::ExitedWithCode(66), "data race(.|\n)*faults.cuh");
}

TEST_F(Detections, NoBarrierIsARace) { expect_race("neighbours_number", 0); }
TEST_F(Detections, WarpBarrierDoesNotOrderTheBlock) { expect_race("neighbours_number", 2); }
TEST_F(Detections, BallotIsNoBarrier) { expect_race("neighbours_number", 3); }
TEST_F(Detections, WaitingForACopyOrdersOneThreadOnly) { expect_race("neighbours_copy", 0); }
#endif

TEST_F(Detections, BarriersAreNoRace) {
  EXPECT_EQ(run("neighbours_number", 1)[kThreads - 1], 0);
  EXPECT_EQ(run("neighbours_copy", 1)[2], 12);
}

}  // namespace
}  // namespace quire::test
