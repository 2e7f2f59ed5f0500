#include "emulator/emulator.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cuda/driver.h"
#include "emulator/device_state.h"
#include "emulator/fake_driver.h"
#include "emulator/host_compiler.h"
#include "jit/compiler.h"

namespace quire::emulator {
namespace {

const FakeArch& fake_arch(int arch) {
  const char* text = std::getenv("QUIRE_EMULATED_ARCH");
  const std::string wanted = arch != 0 ? std::to_string(arch) : text != nullptr ? text : "80";
  for (const FakeArch* known : {&kAmpere, &kHopper}) {
    if (wanted == std::to_string(known->capability)) return *known;
  }
  throw std::invalid_argument("emulator: arch: got " + wanted + ", expected 80 or 90");
}

}  // namespace

void install(int num_devices, int arch) {
  // The library's own cache of images must live and die with the objects that they name.
  setenv("QUIRE_CACHE_DIR", QUIRE_EMULATOR_CACHE_DIR "/images", /*overwrite=*/0);
  jit::replace_compiler_for_testing(compile_for_host, host_compiler_version());
  cuda::replace_driver_for_testing(&make_fake_driver(num_devices, fake_arch(arch)));
}

void uninstall() {
  cuda::replace_driver_for_testing(nullptr);
  jit::replace_compiler_for_testing(nullptr);
}

}  // namespace quire::emulator
