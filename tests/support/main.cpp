// main() of every test program: puts the emulator in place of the GPU when asked to.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "support/poison_shared_memory.h"
#include "support/test_device.h"

#if QUIRE_WITH_CUDA
#include "emulator/emulator.h"
#endif

namespace {

// On a GPU every test starts with NaN in shared memory.
class PoisonBeforeEachTest : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { quire::test::poison_shared_memory(); }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (quire::test::is_emulated()) {
#if QUIRE_WITH_CUDA
    // By the environment, for those tests too that install it again.
    if (quire::test::wants_hopper()) setenv("QUIRE_EMULATED_ARCH", "90", /*overwrite=*/1);
    quire::emulator::install();
#else
    std::fputs("QUIRE_TEST_DEVICE: this build has no CUDA backend\n", stderr);
    return 1;
#endif
  }
  if (quire::test::on_gpu()) {
    testing::UnitTest::GetInstance()->listeners().Append(new PoisonBeforeEachTest);
  }
  return RUN_ALL_TESTS();
}
