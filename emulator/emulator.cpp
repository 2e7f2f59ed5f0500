#include "emulator/emulator.h"

#include <cstdlib>

#include "cuda/driver.h"
#include "emulator/fake_driver.h"
#include "emulator/host_compiler.h"
#include "jit/compiler.h"

namespace quire::emulator {

void install(int num_devices) {
  // The library's own cache of images must live and die with the objects that they name.
  setenv("QUIRE_CACHE_DIR", QUIRE_EMULATOR_CACHE_DIR "/images", /*overwrite=*/0);
  jit::replace_compiler_for_testing(compile_for_host, host_compiler_version());
  cuda::replace_driver_for_testing(&make_fake_driver(num_devices));
}

void uninstall() {
  cuda::replace_driver_for_testing(nullptr);
  jit::replace_compiler_for_testing(nullptr);
}

}  // namespace quire::emulator
