// Which backend runs an operator: the one of the tensors' device.
#pragma once

#include "quire/device.h"
#include "quire/error.h"

#include <string>

namespace quire {

// Calls on_cpu or on_cuda. Code inside on_cuda is not linked when CUDA is switched off.
template <class OnCpu, class OnCuda>
void dispatch(const char* op, Device device, OnCpu&& on_cpu, [[maybe_unused]] OnCuda&& on_cuda) {
  if (device.is_cpu()) return on_cpu();
  if constexpr (QUIRE_WITH_CUDA) {
    on_cuda();
  } else {
    throw Error(ErrorCode::not_implemented,
                std::string(op) +
                    ": device: got cuda, expected cpu: this build has no CUDA "
                    "backend");
  }
}

}  // namespace quire
