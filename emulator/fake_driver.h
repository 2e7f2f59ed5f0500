// The driver table of the fake devices. Everything enqueued has happened when a call returns.
#pragma once

#include "cuda/driver.h"

namespace quire::emulator {

struct DeviceState;

struct FakeArch;
// Forgets all devices and makes `num_devices` new ones. Memory that is still allocated stays valid.
const cuda::DriverTable& make_fake_driver(int num_devices, const FakeArch& arch);

// The files that fill the table: device_memory.cpp, launch.cpp, tensor_map.cpp and fake_driver.cpp.
void add_memory_calls(cuda::DriverTable& table);
void add_module_calls(cuda::DriverTable& table);
void add_tensor_map_calls(cuda::DriverTable& table);

// Null (the default stream) or a stream of the current device.
bool stream_is_current(const DeviceState& state, cuda::StreamHandle stream);

}  // namespace quire::emulator
