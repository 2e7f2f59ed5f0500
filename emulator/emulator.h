// Runs the library's CUDA backend without a GPU: a fake driver over host memory whose kernels are
// the library's own generated units, compiled by g++ against emulator/tile/.
#pragma once

namespace quire::emulator {

// Replaces driver and compiler of the library. `num_devices` fake devices appear.
void install(int num_devices = 1);
// Puts the real ones back.
void uninstall();

}  // namespace quire::emulator
