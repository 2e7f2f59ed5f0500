// Where the operators under test run. One test source serves three: the CPU backend, the CUDA
// backend on the emulator, and the CUDA backend on a GPU. QUIRE_TEST_DEVICE chooses:
// "cpu" (default), "emulator" (compute capability 8.0), "emulator90" (9.0) or "cuda:N".
#pragma once

#include "quire/device.h"

namespace quire::test {

Device test_device();  // cuda:0 on the emulator: its fake driver shows one or more such devices
bool is_emulated();    // every GPU thread is a fiber: use tiny sizes
bool wants_hopper();   // "emulator90"
bool on_gpu();         // a real one
bool is_hopper();      // asks the device: not before main()
// A second device for mixed-device errors: the CPU for CUDA, cuda:0 for the CPU.
Device other_device();

}  // namespace quire::test
