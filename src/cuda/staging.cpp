#include "cuda/staging.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/log.h"
#include "quire/error.h"

namespace quire::cuda {
namespace {

constexpr unsigned kDisableTiming = 2;  // of events
constexpr Result kNotReady = 600;

// Allocating and asking events would end the capture of a graph on another stream, or be refused,
// although neither touches what is captured.
class RelaxedCapture {
 public:
  RelaxedCapture() { exchange(); }
  ~RelaxedCapture() { exchange(); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  void exchange() { driver().thread_exchange_stream_capture_mode(&mode_); }
  int mode_ = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED; then the caller's
};

}  // namespace

StagingRing::~StagingRing() {
  for (Buffer& buffer : ring_) release(buffer);
  for (Buffer& buffer : captured_) release(buffer);
}

StagingRing::Buffer StagingRing::make(std::size_t bytes, bool for_graph) const {
  Buffer buffer{.bytes = std::max(bytes, least_bytes_)};
  void* data = nullptr;
  check(driver().mem_host_alloc(&data, buffer.bytes, 0), "cuMemHostAlloc");
  buffer.data = static_cast<std::byte*>(data);
  if (for_graph) return buffer;
  if (const Result result = driver().event_create(&buffer.copied, kDisableTiming)) {
    driver().mem_free_host(data);
    check(result, "cuEventCreate");
  }
  return buffer;
}

// Copies out of it may still be going on.
void StagingRing::release(Buffer& buffer) const noexcept {
  try {
    const DeviceGuard guard(device_index_);
    if (buffer.in_flight) check(driver().event_synchronize(buffer.copied), "cuEventSynchronize");
    if (buffer.copied) check(driver().event_destroy(buffer.copied), "cuEventDestroy");
    check(driver().mem_free_host(buffer.data), "cuMemFreeHost");
  } catch (const Error& error) {
    log::write(log::Level::error, error.what());
  }
}

bool StagingRing::is_free(Buffer& buffer) const {
  if (!buffer.in_flight) return true;
  const Result result = driver().event_query(buffer.copied);
  if (result == kNotReady) return false;
  check(result, "cuEventQuery");
  buffer.in_flight = false;
  return true;
}

void StagingRing::reserve(std::size_t bytes) {
  const DeviceGuard guard(device_index_);
  const RelaxedCapture relaxed;
  least_bytes_ = std::max(least_bytes_, bytes);
  while (ring_.size() < 2) ring_.push_back(make(bytes, false));
  for (Buffer& buffer : ring_) {
    if (buffer.bytes >= bytes) continue;
    Buffer larger = make(bytes, false);
    release(buffer);
    buffer = larger;
  }
}

StagingRing::Buffer& StagingRing::next_buffer(std::size_t bytes) {
  for (std::size_t i = 0; i < ring_.size(); ++i) {
    const std::size_t index = (next_ + i) % ring_.size();
    if (!is_free(ring_[index])) continue;
    next_ = (index + 1) % ring_.size();
    return ring_[index];
  }
  if (ring_.size() < kMaxBuffers) {
    ring_.push_back(make(bytes, false));
    next_ = 0;
    return ring_.back();
  }
  Buffer& oldest = ring_[next_];
  next_ = (next_ + 1) % ring_.size();
  check(driver().event_synchronize(oldest.copied), "cuEventSynchronize");
  oldest.in_flight = false;
  return oldest;
}

std::byte* StagingRing::begin(std::size_t bytes, Stream stream) {
  const DeviceGuard guard(device_index_);
  const bool for_graph = is_capturing(device_index_, stream);
  const RelaxedCapture relaxed;
  if (for_graph) {
    captured_.push_back(make(bytes, true));
    current_ = &captured_.back();
    return current_->data;
  }
  Buffer& buffer = next_buffer(bytes);
  if (buffer.bytes < bytes) {
    Buffer larger = make(std::max(bytes, buffer.bytes / 2 * 3), false);
    release(buffer);
    buffer = larger;
  }
  current_ = &buffer;
  return buffer.data;
}

void StagingRing::copy(void* dst, std::span<const StagedRange> ranges, Stream stream) {
  const DeviceGuard guard(device_index_);
  Buffer& buffer = *std::exchange(current_, nullptr);
  // Recorded also when a copy fails: those before it read the buffer.
  Result copied = 0;
  for (const StagedRange& range : ranges) {
    copied = driver().memcpy_htod_async(reinterpret_cast<DevicePtr>(dst) + range.begin,
                                        buffer.data + range.begin, range.end - range.begin,
                                        stream.handle);
    if (copied != 0) break;
  }
  if (buffer.copied) {
    buffer.in_flight = true;
    check(driver().event_record(buffer.copied, stream.handle), "cuEventRecord");
  }
  check(copied, "cuMemcpyHtoDAsync");
}

std::shared_ptr<StagingRing> make_staging(int device_index) {
  return std::make_shared<StagingRing>(device_index);
}

bool is_capturing(int device_index, Stream stream) {
  if (reinterpret_cast<std::uintptr_t>(stream.handle) <= 1) return false;  // both its names
  const DeviceGuard guard(device_index);
  int status = 0;
  check(driver().stream_is_capturing(stream.handle, &status), "cuStreamIsCapturing");
  return status != 0;
}

}  // namespace quire::cuda
