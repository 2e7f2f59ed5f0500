// Getting kernels ready and launching them, with a driver that records and a compiler that counts.
#include "cuda/launch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "jit/compiler.h"
#include "jit/recording_driver.h"
#include "jit/scoped_environment.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

class Launch : public testing::Test {
 protected:
  Launch() {
    jit::replace_compiler_for_testing([this](const jit::KernelSpec& spec, const std::string& arch) {
      ++compilations;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      if (broken) throw Error(ErrorCode::compile, spec.name + ": broken");
      return jit::CompiledKernel{.image = spec.name + " for " + arch};
    });
  }
  ~Launch() override { jit::replace_compiler_for_testing(nullptr); }

  static jit::KernelSpec spec(const std::string& name, std::size_t smem_bytes = 0) {
    return {.name = name,
            .header = "x.cuh",
            .function = name,
            .config_type = "Config",
            .config = "{}",
            .params_type = "Params",
            .threads_per_block = 256,
            .dynamic_smem_bytes = smem_bytes};
  }

  test::TemporaryFolder folder;
  test::ScopedVariable cache{"QUIRE_CACHE_DIR", folder.path().c_str()};
  test::RecordingDriver driver;
  std::atomic<int> compilations = 0;
  bool broken = false;
};

TEST_F(Launch, RunsInTheContextOfTheKernelsDevice) {
  test::set_current_context(test::recorded_context(0));
  const Kernel& kernel = get_kernel(spec("norm", 1000), 1);
  int stream = 0;
  launch(kernel, 7, 3, Stream{&stream}, 42);
  ASSERT_EQ(driver.state().launches.size(), 1u);
  const test::RecordedLaunch& made = driver.state().launches[0];
  EXPECT_EQ(made.function, "norm");
  EXPECT_EQ(made.context, test::recorded_context(1));
  EXPECT_EQ(made.stream, &stream);
  EXPECT_EQ(made.grid_x, 7u);
  EXPECT_EQ(made.grid_y, 3u);
  EXPECT_EQ(made.threads, 256u);
  EXPECT_EQ(made.smem_bytes, 1000u);
  EXPECT_EQ(driver.state().images[0], "norm for sm_90a");
  EXPECT_EQ(driver.state().dynamic_smem_limits["norm"], 1000);
  EXPECT_EQ(test::current_context(), test::recorded_context(0));
}

TEST_F(Launch, AnEmptyGridLaunchesNothing) {
  const Kernel& kernel = get_kernel(spec("norm"), 0);
  launch(kernel, 0, 1, {}, 42);
  launch(kernel, 1, 0, {}, 42);
  EXPECT_TRUE(driver.state().launches.empty());
}

TEST_F(Launch, KernelsAreMadeOncePerDevice) {
  const Kernel& first = get_kernel(spec("norm"), 0);
  EXPECT_EQ(&first, &get_kernel(spec("norm"), 0));
  EXPECT_NE(&first, &get_kernel(spec("norm"), 1));
  EXPECT_NE(&first, &get_kernel(spec("rope"), 0));
  EXPECT_EQ(compilations, 2) << "the second device takes the image from the disk";
  EXPECT_EQ(driver.state().images.size(), 3u);
}

TEST_F(Launch, EveryPartOfTheSpecTellsKernelsApart) {
  const jit::KernelSpec base = spec("norm");
  const Kernel* const first = &get_kernel(base, 0);
  std::vector<jit::KernelSpec> others(8, base);
  others[0].header = "y.cuh";
  others[1].function = "other";
  others[2].config_type = "Other";
  others[3].config = "{.a=1}";
  others[4].params_type = "Other";
  others[5].threads_per_block = 128;
  others[6].min_blocks_per_sm = 2;
  others[7].extra_headers = {{"variant.h", "text"}};
  for (const jit::KernelSpec& other : others) EXPECT_NE(&get_kernel(other, 0), first);
}

TEST_F(Launch, ThreadsShareOneCompilation) {
  std::vector<const Kernel*> kernels(8);
  {
    std::vector<std::jthread> threads;
    for (const Kernel*& kernel : kernels) {
      threads.emplace_back([&kernel] { kernel = &get_kernel(spec("norm"), 0); });
    }
  }
  for (const Kernel* kernel : kernels) EXPECT_EQ(kernel, kernels[0]);
  EXPECT_EQ(compilations, 1);
  EXPECT_EQ(driver.state().images.size(), 1u);
}

TEST_F(Launch, AFailureIsNotRemembered) {
  broken = true;
  EXPECT_THROW(get_kernel(spec("norm"), 0), Error);
  EXPECT_TRUE(driver.state().images.empty());
  broken = false;
  EXPECT_NO_THROW(get_kernel(spec("norm"), 0));
}

TEST_F(Launch, KernelsStartEarlyWhereTheyCan) {
  struct Case {
    int compute_major, driver_version;
    bool starts_early;
  };
  for (const Case c : {Case{9, 12030, true}, Case{8, 13000, false}, Case{9, 12020, false}}) {
    test::RecordingDriver fresh;  // limits are read once a driver
    fresh.state().compute_major = c.compute_major;
    fresh.state().driver_version = c.driver_version;
    launch(get_kernel(spec("norm"), 0), 1, 1, {}, 42);
    ASSERT_EQ(fresh.state().launches.size(), 1u);
    EXPECT_EQ(fresh.state().launches[0].starts_early, c.starts_early)
        << c.compute_major << ' ' << c.driver_version;
  }
}

TEST_F(Launch, TooMuchSharedMemoryIsRefusedBeforeCompiling) {
  try {
    get_kernel(spec("attention", 232449), 0);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_implemented);
    EXPECT_STREQ(error.what(),
                 "attention: shared memory: got 232449 bytes, expected at most 232448 on cuda:0 "
                 "(Recorder)");
  }
  EXPECT_EQ(compilations, 0);
  EXPECT_NO_THROW(get_kernel(spec("attention", 232448), 0));
}

TEST_F(Launch, ErrorsNameTheKernelAndLeaveTheContext) {
  test::set_current_context(test::foreign_context());
  const Kernel& kernel = get_kernel(spec("norm"), 1);
  driver.state().failures["cuLaunchKernelEx"] = 701;
  try {
    launch(kernel, 4, 1, {}, 42);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::driver);
    EXPECT_EQ(std::string(error.what())
                  .find("norm: cuLaunchKernelEx of 4 x 1 blocks of 256 threads "
                        "on cuda:1: result: got 701"),
              0u)
        << error.what();
  }
  EXPECT_EQ(test::current_context(), test::foreign_context());
  for (const char* call : {"cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute",
                           "cuOccupancyMaxActiveBlocksPerMultiprocessor"}) {
    driver.state().failures = {{call, 1}};
    try {
      max_blocks_per_sm(get_kernel(spec("rope", 64), 0));
      ADD_FAILURE() << call;
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find(std::string("rope: ") + call), 0u) << error.what();
    }
  }
}

TEST_F(Launch, RefusedMachineCodeIsCompiledAnew) {
  driver.state().failures["cuModuleLoadData"] = 200;
  EXPECT_THROW(get_kernel(spec("norm"), 0), Error);
  EXPECT_EQ(compilations, 2);
  driver.state().failures["cuModuleLoadData"] = 2;
  EXPECT_THROW(get_kernel(spec("rope"), 0), Error);
  EXPECT_EQ(compilations, 3) << "exhausted memory is not the machine code's fault";
}

TEST_F(Launch, Occupancy) { EXPECT_EQ(max_blocks_per_sm(get_kernel(spec("norm"), 0)), 8); }

}  // namespace
}  // namespace quire::cuda
