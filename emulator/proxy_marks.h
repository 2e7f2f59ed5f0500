// Which 16 bytes of shared memory were last written by an ordinary access that the emulator heard
// of (cp_async, stmatrix), and by whom: the asynchronous proxy may read them once the writer or the
// reader has called fence_async_proxy().
#pragma once

#include <cstddef>
#include <vector>

#include "dtype.h"

namespace quire::emulator {

class ProxyMarks {
 public:
  struct Mark {
    int thread = -1;  // none
    kernels::u64 time = 0;
  };

  void clear(std::size_t smem_bytes) { marks_.assign(smem_bytes / kChunkBytes + 1, Mark{}); }
  void written(std::size_t offset, int thread) { marks_[offset / kChunkBytes] = {thread, ++time_}; }
  void written_by_engine(std::size_t offset) { marks_[offset / kChunkBytes] = {}; }
  Mark at(std::size_t offset) const { return marks_[offset / kChunkBytes]; }
  // The time of a fence: after all writes so far.
  kernels::u64 fence() { return ++time_; }

 private:
  static constexpr std::size_t kChunkBytes = 16;
  std::vector<Mark> marks_;
  kernels::u64 time_ = 0;
};

}  // namespace quire::emulator
