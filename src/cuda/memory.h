// Device memory of the CUDA backend. Every function makes its device current and restores the
// caller's; all throw Error{driver}, out_of_memory or device_unavailable.
#pragma once

#include <cstddef>

#include "quire/device.h"

namespace quire::cuda {

int num_devices() noexcept;
void* allocate(std::size_t bytes, int device_index);
void free(void* data, int device_index) noexcept;
void synchronize(int device_index, Stream stream);

// Copies between two devices of which at least one is CUDA. `stream` belongs to the CUDA side, to
// the destination when both are. Copies to or from host memory have finished on return.
void copy(void* dst, Device dst_device, const void* src, Device src_device, std::size_t bytes,
          Stream stream);

// Fills with one byte value, ordered on `stream`.
void fill_bytes(void* data, unsigned char value, std::size_t bytes, int device_index,
                Stream stream);

}  // namespace quire::cuda
