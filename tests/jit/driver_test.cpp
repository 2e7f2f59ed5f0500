// Contexts and errors of the driver, with one that records: no GPU is needed.
#include "cuda/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>

#include "cuda/memory.h"
#include "jit/recording_driver.h"
#include "quire/device.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

using test::current_context;
using test::foreign_context;
using test::recorded_context;
using test::RecordingDriver;
using test::set_current_context;

bool was_called(RecordingDriver& driver, const std::string& call) {
  return std::ranges::find(driver.state().calls, call) != driver.state().calls.end();
}

TEST(DeviceGuard, RestoresWhateverWasCurrent) {
  RecordingDriver driver;
  for (const Context before :
       {Context{nullptr}, foreign_context(), recorded_context(0), recorded_context(1)}) {
    set_current_context(before);
    {
      const DeviceGuard guard(1);
      EXPECT_EQ(current_context(), recorded_context(1));
      const DeviceGuard inner(0);
      EXPECT_EQ(current_context(), recorded_context(0));
    }
    EXPECT_EQ(current_context(), before);
  }
}

TEST(DeviceGuard, RestoresWhenUnwinding) {
  RecordingDriver driver;
  set_current_context(foreign_context());
  try {
    const DeviceGuard guard(1);
    throw 1;
  } catch (int) {
  }
  EXPECT_EQ(current_context(), foreign_context());
}

TEST(DeviceGuard, UnknownDeviceChangesNothing) {
  RecordingDriver driver;
  set_current_context(foreign_context());
  for (const int index : {-1, 2, 100}) {
    try {
      const DeviceGuard guard(index);
      ADD_FAILURE() << index;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::device_unavailable);
      EXPECT_NE(std::string(error.what()).find("cuda:" + std::to_string(index)), std::string::npos);
    }
    EXPECT_EQ(current_context(), foreign_context());
  }
}

TEST(DeviceGuard, IsOfOneThread) {
  RecordingDriver driver;
  const DeviceGuard guard(1);
  Context seen = foreign_context();
  std::thread([&] { seen = current_context(); }).join();
  EXPECT_EQ(seen, nullptr);
}

TEST(Driver, PrimaryContextIsRetainedOnce) {
  RecordingDriver driver;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(primary_context(1), recorded_context(1));
  EXPECT_EQ(std::ranges::count(driver.state().calls, "cuDevicePrimaryCtxRetain in context 0"), 1);
}

TEST(Driver, ErrorsNameCallAndReason) {
  RecordingDriver driver;
  EXPECT_NO_THROW(check(0, "cuAnything"));
  try {
    check(700, "cuAnything");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::driver);
    EXPECT_STREQ(error.what(),
                 "cuAnything: result: got 700 (CUDA_ERROR_FOR_TESTS: CUDA_ERROR_FOR_TESTS), "
                 "expected success");
  }
  try {
    check(2, "cuMemAlloc");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
}

TEST(DeviceLimits, ReadOnceAndNamesTheTarget) {
  const struct {
    int major, minor;
    const char* arch;
  } kArchs[] = {{8, 0, "sm_80"},    {8, 9, "sm_89"},    {9, 0, "sm_90a"},
                {10, 0, "sm_100a"}, {10, 3, "sm_103a"}, {12, 0, "sm_120a"}};
  for (const auto& each : kArchs) {
    RecordingDriver driver;
    driver.state().compute_major = each.major;
    driver.state().compute_minor = each.minor;
    EXPECT_EQ(device_limits(0).arch(), each.arch);
  }
  RecordingDriver driver;
  const DeviceLimits& limits = device_limits(1);
  EXPECT_EQ(limits.name, "Recorder");
  EXPECT_EQ(limits.num_sms, 132);
  EXPECT_EQ(limits.max_smem_per_block, 232448);
  EXPECT_NEAR(limits.memory_speed(), 1, 1e-3);  // it is an H100
  EXPECT_EQ(&limits, &device_limits(1));
  EXPECT_THROW(device_limits(2), Error);
}

TEST(Buffer, OnADeviceThatIsNotCurrent) {
  RecordingDriver driver;
  set_current_context(recorded_context(0));
  {
    const Buffer buffer(64, cuda_device(1));
    EXPECT_NE(buffer.data(), nullptr);
    EXPECT_TRUE(was_called(driver, "cuMemAlloc in context 2"));
    EXPECT_EQ(current_context(), recorded_context(0));
  }
  EXPECT_TRUE(was_called(driver, "cuMemFree in context 2"));
  EXPECT_EQ(current_context(), recorded_context(0));
}

TEST(Buffer, ExhaustedDevice) {
  RecordingDriver driver;
  set_current_context(foreign_context());
  driver.state().failures["cuMemAlloc"] = 2;
  try {
    const Buffer buffer(1 << 20, cuda_device(0));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_NE(std::string(error.what()).find("1048576 bytes"), std::string::npos) << error.what();
  }
  EXPECT_EQ(current_context(), foreign_context());
}

TEST(Copy, EveryDirectionHasHappenedAndWaitsForTheHost) {
  RecordingDriver driver;
  const std::array<int, 4> from = {1, 2, 3, 4};
  std::array<int, 4> to{};
  const Buffer first(sizeof(from), cuda_device(0)), second(sizeof(from), cuda_device(1));
  const Buffer third(sizeof(from), cuda_device(1));
  copy(first.data(), first.device(), from.data(), kCpu, sizeof(from));
  EXPECT_TRUE(was_called(driver, "cuMemcpyHtoDAsync in context 1"));
  EXPECT_EQ(driver.state().calls.back(), "cuStreamSynchronize in context 1");
  copy(second.data(), second.device(), first.data(), first.device(), sizeof(from));
  EXPECT_EQ(driver.state().calls.back(), "cuMemcpyPeerAsync in context 2");
  copy(third.data(), third.device(), second.data(), second.device(), sizeof(from));
  EXPECT_EQ(driver.state().calls.back(), "cuMemcpyDtoDAsync in context 2");
  copy(to.data(), kCpu, third.data(), third.device(), sizeof(from));
  EXPECT_EQ(driver.state().calls.back(), "cuStreamSynchronize in context 2");
  EXPECT_EQ(to, from);
}

}  // namespace
}  // namespace quire::cuda
