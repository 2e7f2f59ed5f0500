#include "support/test_device.h"

#include <cstdlib>
#include <string>

#include "cuda/launch.h"

namespace quire::test {
namespace {

std::string wanted() {
  const char* text = std::getenv("QUIRE_TEST_DEVICE");
  return text == nullptr || *text == '\0' ? "cpu" : text;
}

}  // namespace

bool wants_hopper() { return wanted() == "emulator90"; }

bool is_emulated() { return wanted() == "emulator" || wants_hopper(); }

Device test_device() { return is_emulated() ? cuda_device(0) : parse_device(wanted()); }

bool on_gpu() { return test_device().is_cuda() && !is_emulated(); }

bool is_hopper() {
  return test_device().is_cuda() && cuda::device_limits(test_device().index).compute_major == 9;
}

Device other_device() { return test_device().is_cpu() ? cuda_device(0) : kCpu; }

}  // namespace quire::test
