// Pinned host memory from which plans are copied to the device without waiting for it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cuda/driver.h"
#include "quire/device.h"

namespace quire::cuda {

// Bytes [begin, end) of staging memory, to the same place of the destination.
struct StagedRange {
  std::size_t begin, end;
};

// A ring of buffers. Each is written again only after the copy out of it is done, which an event
// tells. Where all are in flight another one joins the ring, so that nobody waits until the device
// is kMaxBuffers plans behind. A plan that is captured in a CUDA graph gets a buffer that stays as
// it is, because every replay copies from it. Not thread-safe.
class StagingRing {
 public:
  static constexpr std::size_t kMaxBuffers = 32;

  explicit StagingRing(int device_index) : device_index_(device_index) {}
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  // From now on buffers have at least so many bytes, and two are there.
  void reserve(std::size_t bytes);
  // Memory to write to, for one call of copy(). Throws out_of_memory.
  std::byte* begin(std::size_t bytes, Stream stream);
  // Copies ranges of it, ordered on `stream`.
  void copy(void* dst, std::span<const StagedRange> ranges, Stream stream);

 private:
  struct Buffer {
    std::byte* data = nullptr;
    std::size_t bytes = 0;
    Event copied = nullptr;  // null: for a graph
    bool in_flight = false;
  };
  Buffer make(std::size_t bytes, bool for_graph) const;
  void release(Buffer& buffer) const noexcept;
  bool is_free(Buffer& buffer) const;
  Buffer& next_buffer(std::size_t bytes);

  int device_index_;
  std::size_t least_bytes_ = 0;
  std::vector<Buffer> ring_;
  std::size_t next_ = 0;  // the one used longest ago
  std::vector<Buffer> captured_;
  Buffer* current_ = nullptr;
};

std::shared_ptr<StagingRing> make_staging(int device_index);

// Whether work on `stream` goes into a CUDA graph. The legacy default stream cannot be captured.
bool is_capturing(int device_index, Stream stream);

}  // namespace quire::cuda
