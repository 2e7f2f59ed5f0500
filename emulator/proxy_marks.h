// Which 16 bytes of shared memory were last written by an ordinary access that the emulator heard
// of (cp_async, stmatrix), and whether its thread has called fence_async_proxy() since.
#pragma once

#include <cstddef>
#include <vector>

#include "dtype.h"

namespace quire::emulator {

class ProxyMarks {
 public:
  void clear(std::size_t smem_bytes) { marks_.assign(smem_bytes / kChunkBytes + 1, Mark{}); }
  void written(std::size_t offset, int thread, kernels::u32 fences) {
    marks_[offset / kChunkBytes] = {thread, fences};
  }
  void written_by_engine(std::size_t offset) { marks_[offset / kChunkBytes] = {}; }
  struct Mark {
    int thread = -1;
    kernels::u32 fences = 0;  // of the thread, at the write
  };
  Mark at(std::size_t offset) const { return marks_[offset / kChunkBytes]; }

 private:
  static constexpr std::size_t kChunkBytes = 16;
  std::vector<Mark> marks_;
};

}  // namespace quire::emulator
