// A cuBLASLt that multiplies host memory (the emulator's device memory) exactly as its descriptors
// say, and refuses what the real one would.
#pragma once

#include <cstddef>

#include "cuda/cublaslt.h"

namespace quire::test {

const cuda::CublasLtTable& fake_cublaslt();

struct FakeCublasLtCalls {
  int handles = 0;
  int heuristics = 0;
  int products = 0;
  std::size_t last_workspace_bytes = 0;  // given to the last heuristic
};
// Since the process began.
FakeCublasLtCalls fake_cublaslt_calls();

}  // namespace quire::test
