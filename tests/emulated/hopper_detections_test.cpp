// What the emulator must notice about the sm_90 primitives (primitives/faults_sm90.cuh,
// races_sm90.cuh).
#include <cmath>
#include <cstdlib>
#include <string>

#include "cuda/driver.h"
#include "emulated/primitive_kernel.h"
#include "emulator/emulator.h"
#include "quire/error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

constexpr std::size_t kThreads = 128;
constexpr std::size_t kSmemBytes = 32 << 10;

class HopperDetections : public HopperTest {
 protected:
  void SetUp() override {
    if (!is_emulated()) GTEST_SKIP() << "needs QUIRE_TEST_DEVICE=emulator90";
    HopperTest::SetUp();
  }
};

// Rows of 64 f16, of which the engine brings 16.
kernels::PrimitiveParams make_params(const TestTensor& a, const TestTensor& out) {
  kernels::PrimitiveParams params{.a = a.view().data, .out = out.view().data};
  const std::uint64_t dims[4] = {64, 16, 1, 1}, strides[3] = {128, 2048, 2048};
  const std::uint32_t box[4] = {64, 16, 1, 1}, ones[4] = {1, 1, 1, 1};
  const cuda::DeviceGuard guard(test_device().index);
  cuda::check(cuda::driver().tensor_map_encode_tiled(&params.map, cuda::kTensorMapF16, 4,
                                                     a.view().data, dims, strides, box, ones, 0,
                                                     cuda::kSwizzle128, cuda::kPromoteNone, 0),
              "cuTensorMapEncodeTiled");
  return params;
}

std::vector<double> run(const std::string& function, int n = 0, int mode = 0,
                        const std::string& header = "faults_sm90.cuh") {
  std::vector<double> numbers(4 * kThreads);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i / 4);
  const TestTensor a = TestTensor::from(numbers, {4 * kThreads}, DType::f32);
  const TestTensor out = TestTensor::poisoned({kThreads}, DType::f32);
  run_primitive({.header = header,
                 .includes = {"faults_sm90.cuh"},
                 .function = function,
                 .config = {.n = n, .mode = mode},
                 .params = make_params(a, out),
                 .threads = kThreads,
                 .smem_bytes = kSmemBytes});
  return out.values();
}

void expect_fault(const std::string& function, const std::vector<std::string>& parts, int n = 0) {
  try {
    run(function, n);
    ADD_FAILURE() << function << " went unnoticed";
  } catch (const Error& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "no \"" << part << "\" in: " << error.what();
    }
  }
  // The next kernel is not disturbed.
  EXPECT_EQ(run("early_read_of_product", 2)[5], 17);
}

TEST_F(HopperDetections, BarriersNotReady) {
  const std::string place = "the barrier at offset 31744 was not initialised, or was written over";
  expect_fault("barrier_without_init", {"thread 0: Mbarrier::wait at ", "faults_sm90.cuh:", place});
  expect_fault("barrier_init_twice", {"Mbarrier::init at ", "has been initialised before"});
  expect_fault("barrier_overwritten", {"Mbarrier::arrive at ", "barrier at offset 31752"});
}

TEST_F(HopperDetections, TooManyArrivals) {
  expect_fault("too_many_arrivals",
               {"one arrival too many in a phase of the barrier at offset 31744 (phase 0, ",
                "2 of 2 arrivals, 64 bytes have not come)"});
}

TEST_F(HopperDetections, WaitsWithoutEnd) {
  const std::string barrier =
      "for parity 0 of the barrier at offset 31752 (phase 0, parity 0: 1 of 2 arrivals)";
  expect_fault("missing_arrival", {"deadlock: threads 0-127 wait in Mbarrier::wait at ", barrier,
                                   "nobody has returned"});
  expect_fault("missing_arrival", {"deadlock: threads 0-127 poll in Mbarrier::test at ", barrier},
               1);
  expect_fault("missing_bytes", {"threads 0-127 wait in Mbarrier::wait at ",
                                 "1 of 1 arrivals, 16 bytes have not come)"});
}

TEST_F(HopperDetections, NamedBarriers) {
  expect_fault("half_of_a_barrier",
               {"deadlock: threads 0-63 wait in named_barrier_sync at ",
                "for barrier 3 (64 of 128 threads have come)", "threads 64-127 have returned"});
  expect_fault("barrier_sizes",
               {"for 96 threads of barrier 3, but named_barrier_sync at ", " was for 64"});
  expect_fault("barrier_zero", {"named_barrier_sync at ", "with id 0, expected 1 to 15"});
  expect_fault("divergent_barrier", {"divergence: calls named_barrier_arrive at "});
}

TEST_F(HopperDetections, RegistersByPartOfAWarpgroup) {
  expect_fault("registers_by_three_warps", {"deadlock: threads 0-63, 96-127 wait in take_registers "
                                            "at ",
                                            "threads 64-95 have returned"});
}

TEST_F(HopperDetections, CopiesOfBoxes) {
  expect_fault("copy_without_fence",
               {"tma::load at ", "no fence_mbarrier_init() after the barrier's init"});
  expect_fault("misaligned_box",
               {"box at offset 128 of shared memory, expected a multiple of 1024"});
  expect_fault("copy_nobody_waits_for", {"tma::load at ", "under way and nobody waited for it"});
  for (const double x : run("early_read_of_box", 0)) EXPECT_TRUE(std::isnan(x));
  const std::vector<double> right = run("early_read_of_box", 1);
  EXPECT_EQ(right[0], 0);
  EXPECT_EQ(right[9], 8);  // row 1, chunk 1, of which the swizzle makes chunk 0
}

TEST_F(HopperDetections, CopiesOfChunks) {
  for (const double x : run("early_read_of_chunks", 0)) EXPECT_TRUE(std::isnan(x));
  const std::vector<double> right = run("early_read_of_chunks", 1);
  for (std::size_t i = 0; i < kThreads; ++i) EXPECT_EQ(right[i], i);
  expect_fault("chunks_nobody_waits_for",
               {"Mbarrier::arrive_after_copies at ", "under way and nobody waited for it"});
}

TEST_F(HopperDetections, StoresOfBoxes) {
  expect_fault("store_box", {"returned and had not waited for tma::store at "}, 0);
  EXPECT_EQ(run("store_box", 1)[0], 6);
  expect_fault("store_box", {"tma::store reads shared memory that was written with no fence"}, 2);
}

TEST_F(HopperDetections, ReadBeforeTheProduct) {
  for (const int n : {0, 1}) {
    for (const double x : run("early_read_of_product", n)) EXPECT_TRUE(std::isnan(x));
  }
  for (const double x : run("early_read_of_product", 2)) EXPECT_EQ(x, 17);
}

TEST_F(HopperDetections, OperandReleasedEarly) {
  EXPECT_EQ(run("early_read_of_product", 3)[0], 15);
}

TEST_F(HopperDetections, FencesAndGroups) {
  expect_fault("product_without_fence", {"no wgmma::fence() before the first product"});
  expect_fault("changed_accumulators",
               {"its accumulators were changed and no wgmma::fence() came after"});
  expect_fault("product_without_commit",
               {"wgmma::wait at ", "is in no group: no wgmma::commit() after it"});
  expect_fault("product_without_wait", {"returned and had not waited for the product at "});
}

TEST_F(HopperDetections, DivergentProduct) {
  expect_fault("divergent_product",
               {"divergence: wgmma::wait at ", "thread 77 called a product at ",
                "thread 0 a product at ", "with other operands"});
}

TEST_F(HopperDetections, Operands) {
  expect_fault("misplaced_operand", {"operand does not begin in the first row of the swizzle's"});
  expect_fault("operand_outside", {"reads shared memory at offset 32768: outside"});
  expect_fault("operand_without_proxy_fence",
               {"reads shared memory at offset 0: written with no fence_async_proxy() after"});
  run("operand_without_proxy_fence", 1);
  expect_fault("operand_without_proxy_fence",
               {"reads shared memory at offset 0: written with no fence_async_proxy() after"}, 2);
  run("operand_without_proxy_fence", 3);
  expect_fault("negative_hold", {"wgmma::hold of a negative number"});
}

TEST_F(HopperDetections, OlderDevice) {
  emulator::install(1, 80);
  try {
    run("negative_hold");  // no primitive of sm_90
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("hold of a negative"), std::string::npos);
  }
  try {
    run("product_without_fence");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("needs compute capability 9.0; the device has 8.0"),
              std::string::npos)
        << error.what();
  }
  emulator::install(1);
}

std::vector<double> run_racing(const std::string& function, int mode) {
  return run(function, 0, mode, "races_sm90.cuh");
}

#if defined(__SANITIZE_THREAD__)
// Runs in a process of its own: the sanitizer's report ends it with code 66.
void expect_race(const std::string& function, int mode) {
  SCOPED_TRACE(function);
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        run_racing(function, mode);
        std::exit(0);
      },
      testing::ExitedWithCode(66), "data race(.|\n)*(races|faults)_sm90.cuh");
}

TEST_F(HopperDetections, Races) {
  expect_race("others_number", 0);
  expect_race("others_number", 3);
  expect_race("box_over_readers", 0);
  expect_race("product_of_others_numbers", 0);
  expect_race("operand_released", 0);
  expect_race("barrier_before_init", 0);
}
#endif

TEST_F(HopperDetections, BarriersAreNoRace) {
  EXPECT_EQ(run_racing("others_number", 1)[127], 63);
  EXPECT_EQ(run_racing("others_number", 2)[127], 63);
  EXPECT_EQ(run_racing("box_over_readers", 1)[9], 8);
  run_racing("product_of_others_numbers", 1);
  EXPECT_EQ(run_racing("operand_released", 1)[127], 16);
}

}  // namespace
}  // namespace quire::test
