#include "emulator/copy_engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "emulator/block.h"
#include "emulator/device_state.h"
#include "emulator/sanitizers.h"

namespace quire::emulator {
namespace {

constexpr int kRowBytes = 128, kChunkBytes = 16;

// By the address in shared memory: the pattern repeats every 8 * swizzle_bytes.
std::size_t swizzled(std::size_t offset, int swizzle_bytes) {
  const std::size_t mask =
      swizzle_bytes == 0 ? 0 : static_cast<std::size_t>(swizzle_bytes) / 16 - 1;
  return offset ^ (offset / kRowBytes & mask) * kChunkBytes;
}

// A copy's destination: inside shared memory, aligned to the repeat of the swizzle's pattern.
void check_destination(const TensorMapInfo& map, const u8* dst, Site site) {
  Block& block = Block::instance();
  const auto fail = [&](const std::string& text) {
    block.fault(fmt::format("tma::load at {}:{}: {}", site.file, site.line, text));
  };
  if (map.swizzle_bytes != 0 && map.inner_bytes() != map.swizzle_bytes) {
    fail("the emulator has no boxes with rows shorter than the swizzle");
  }
  const auto offset = static_cast<std::ptrdiff_t>(block.offset_of(dst));
  const auto bytes = static_cast<std::ptrdiff_t>(map.inner_bytes()) * map.box_rows();
  if (offset < 0 || offset + bytes > static_cast<std::ptrdiff_t>(block.smem_bytes())) {
    fail(fmt::format("destination outside the block's {} bytes of shared memory, at offset {}",
                     block.smem_bytes(), offset));
  }
  const int alignment = std::max(128, 8 * map.swizzle_bytes);
  if (offset % alignment != 0) {
    fail(fmt::format("destination at offset {}, expected a multiple of {}", offset, alignment));
  }
}

}  // namespace

Box CopyEngine::start(void* dst, const u64* map, const int* coordinates, int rank,
                      MbarrierState& full, Site site) {
  Block& block = Block::instance();
  if (count_ == kMaxPending) block.fault("more copies under way than the emulator has room for");
  Copy& copy = at(count_);
  const auto info = decode_tensor_map(map);
  if (!info || info->rank != rank) {
    block.fault(
        fmt::format("tma::load at {}:{}: no tensor map of rank {}", site.file, site.line, rank));
  }
  if (!full.fenced) {
    block.fault(fmt::format("tma::load at {}:{}: no fence_mbarrier_init() after the barrier's init",
                            site.file, site.line));
  }
  copy.map = *info;
  copy.dst = static_cast<u8*>(dst);
  for (int i = 0; i < rank; ++i) copy.coordinates[i] = coordinates[i];
  copy.full = &full;
  copy.site = site;
  copy.landed = false;
  check_destination(copy.map, copy.dst, site);
  for (int row = 0, skipped_bytes, bytes; row < copy.map.box_rows(); ++row) {
    source(copy, row, skipped_bytes, bytes);  // faults now rather than when the copy lands
  }
  return {copy.dst, copy.map.inner_bytes() * copy.map.box_rows(), copy.map.box_rows()};
}

// The part of a row of the box inside the tensor: `skipped_bytes` from the row's begin on.
const u8* CopyEngine::source(const Copy& copy, int row, int& skipped_bytes, int& bytes) {
  const TensorMapInfo& map = copy.map;
  bytes = skipped_bytes = 0;
  u64 address = map.base;
  for (int i = 1; i < map.rank; ++i) {
    const int in_box = static_cast<int>(map.box[i]);
    const long long at = static_cast<long long>(copy.coordinates[i]) + row % in_box;
    if (at < 0 || static_cast<u64>(at) >= map.dims[i]) return nullptr;
    address += static_cast<u64>(at) * map.strides[i];
    row /= in_box;
  }
  const long long begin = copy.coordinates[0], end = begin + map.box[0];
  const long long first = std::max(begin, 0ll);
  const long long last = std::min(end, static_cast<long long>(map.dims[0]));
  if (first >= last) return nullptr;
  skipped_bytes = static_cast<int>(first - begin) * map.element_bytes;
  bytes = static_cast<int>(last - first) * map.element_bytes;
  address += static_cast<u64>(first * map.element_bytes);
  if (!device_state().find(address, static_cast<std::size_t>(bytes))) {
    Block::instance().fault(
        fmt::format("tma::load at {}:{}: reads {} bytes at {:#x}, which are "
                    "not device memory",
                    copy.site.file, copy.site.line, bytes, address));
  }
  return reinterpret_cast<const u8*>(address);
}

const u8* CopyEngine::row_source(int row, int& bytes) const {
  int skipped_bytes;
  return source(pending_[(first_ + count_) % kMaxPending], row, skipped_bytes, bytes);
}

void CopyEngine::queue() {
  MbarrierState& full = *at(count_).full;
  // Who waits for the barrier has the copy's bytes, and the thread that waited before the copy.
  release(&full.memory_order[full.phase % 2]);
  ++count_;
}

void CopyEngine::execute(Copy& copy) {
  Block& block = Block::instance();
  const int row_bytes = copy.map.inner_bytes(), rows = copy.map.box_rows();
  const std::size_t begin = block.offset_of(copy.dst);
  for (int row = 0; row < rows; ++row) {
    int skipped_bytes, bytes;
    const u8* src = source(copy, row, skipped_bytes, bytes);
    for (int i = 0; i < row_bytes; ++i) {
      const bool inside = i >= skipped_bytes && i < skipped_bytes + bytes;
      const std::size_t offset =
          swizzled(begin + static_cast<std::size_t>(row * row_bytes + i), copy.map.swizzle_bytes);
      block.shared_memory()[offset] = inside ? src[i - skipped_bytes] : u8{0};
      if (i % kChunkBytes == 0) block.proxy_marks().written_by_engine(offset);
    }
  }
  copy.landed = true;
  block.mbarriers().bytes_came(*copy.full, row_bytes * rows);
}

bool CopyEngine::land() {
  while (count_ > 0 && at(0).landed) {
    first_ = (first_ + 1) % kMaxPending;
    --count_;
  }
  if (count_ == 0) return false;
  execute(at(0));
  return true;
}

void CopyEngine::land_for(const MbarrierState& full) {
  for (std::size_t i = 0; i < count_; ++i) {
    Copy& copy = at(i);
    if (copy.landed || copy.full != &full) continue;
    execute(copy);
    return;
  }
}

std::string CopyEngine::describe_pending() const {
  for (std::size_t i = 0; i < count_; ++i) {
    const Copy& copy = pending_[(first_ + i) % kMaxPending];
    if (copy.landed) continue;
    return fmt::format("the copy of tma::load at {}:{} is under way and nobody waited for it",
                       copy.site.file, copy.site.line);
  }
  return {};
}

}  // namespace quire::emulator
