// Runs the library's CUDA backend without a GPU: a fake driver over host memory whose kernels are
// the library's own generated units, compiled by g++ against emulator/tile/.
#pragma once

namespace quire::emulator {

// Replaces driver and compiler of the library. `num_devices` fake devices appear, of compute
// capability 8.0 (arch 80) or 9.0 (arch 90); arch 0: as the environment variable
// QUIRE_EMULATED_ARCH says, or else 80. Throws std::invalid_argument for others.
void install(int num_devices = 1, int arch = 0);
// Puts the real ones back.
void uninstall();

}  // namespace quire::emulator
