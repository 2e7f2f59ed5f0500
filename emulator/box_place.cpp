#include "emulator/box_place.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "emulator/block.h"
#include "emulator/device_state.h"

namespace quire::emulator {
namespace {

constexpr std::size_t kRowBytes = 128, kChunkBytes = 16;

// By the address in shared memory: the pattern repeats every 8 * swizzle_bytes.
std::size_t swizzled(std::size_t offset, int swizzle_bytes) {
  const std::size_t mask =
      swizzle_bytes == 0 ? 0 : static_cast<std::size_t>(swizzle_bytes) / kChunkBytes - 1;
  return offset ^ (offset / kRowBytes & mask) * kChunkBytes;
}

[[noreturn]] void fail(const char* what, Site site, const std::string& text) {
  Block::instance().fault(fmt::format("{} at {}:{}: {}", what, site.file, site.line, text));
}

}  // namespace

BoxPlace BoxPlace::checked(const char* what, void* shared, const u64* map, const int* coordinates,
                           int rank, Site site) {
  const auto info = decode_tensor_map(map);
  if (!info || info->rank != rank) {
    fail(what, site, fmt::format("no tensor map of rank {}", rank));
  }
  BoxPlace box{.map = *info, .shared = static_cast<u8*>(shared), .site = site};
  for (int i = 0; i < rank; ++i) box.coordinates[i] = coordinates[i];
  box.check_engine(what);
  box.check_shared(what);
  box.check_tensor(what);
  return box;
}

// What an H100 answers with an illegal instruction or by writing past the tensor's columns.
void BoxPlace::check_engine(const char* what) const {
  const long long column_bytes = static_cast<long long>(coordinates[0]) * map.element_bytes;
  if (column_bytes % static_cast<long long>(kChunkBytes) != 0) {
    fail(what, site,
         fmt::format("column {}: {} bytes, expected a multiple of 16", coordinates[0],
                     column_bytes));
  }
  if (std::string_view(what) != "tma::store") return;
  if (const std::size_t bytes = map.dims[0] * static_cast<std::size_t>(map.element_bytes);
      bytes % kChunkBytes != 0) {
    fail(what, site, fmt::format("columns of {} bytes, expected a multiple of 16", bytes));
  }
  for (int i = 0; i < map.rank; ++i) {
    if (coordinates[i] >= 0) continue;
    fail(what, site, fmt::format("coordinate {}: got {}, expected 0 or more", i, coordinates[i]));
  }
}

// Inside shared memory, aligned to the repeat of the swizzle's pattern.
void BoxPlace::check_shared(const char* what) const {
  Block& block = Block::instance();
  if (map.swizzle_bytes != 0 && row_bytes() != map.swizzle_bytes) {
    fail(what, site, "the emulator has no boxes with rows shorter than the swizzle");
  }
  const auto offset = static_cast<std::ptrdiff_t>(block.offset_of(shared));
  const auto bytes = static_cast<std::ptrdiff_t>(row_bytes()) * rows();
  if (offset < 0 || offset + bytes > static_cast<std::ptrdiff_t>(block.smem_bytes())) {
    fail(what, site,
         fmt::format("box outside the block's {} bytes of shared memory, at offset {}",
                     block.smem_bytes(), offset));
  }
  const int alignment = std::max(128, 8 * map.swizzle_bytes);
  if (offset % alignment != 0) {
    fail(what, site,
         fmt::format("box at offset {} of shared memory, expected a multiple of {}", offset,
                     alignment));
  }
}

void BoxPlace::check_tensor(const char* what) const {
  for (int row = 0, skipped_bytes, bytes; row < rows(); ++row) {
    const u8* begin = tensor_row(row, skipped_bytes, bytes);
    const auto address = reinterpret_cast<cuda::DevicePtr>(begin);
    if (begin == nullptr || device_state().find(address, static_cast<std::size_t>(bytes))) continue;
    fail(what, site,
         fmt::format("{} bytes of the tensor at {:#x} are not device memory", bytes, address));
  }
}

u8* BoxPlace::tensor_row(int row, int& skipped_bytes, int& bytes) const {
  bytes = skipped_bytes = 0;
  u64 address = map.base;
  for (int i = 1; i < map.rank; ++i) {
    const int in_box = static_cast<int>(map.box[i]);
    const long long at = static_cast<long long>(coordinates[i]) + row % in_box;
    if (at < 0 || static_cast<u64>(at) >= map.dims[i]) return nullptr;
    address += static_cast<u64>(at) * map.strides[i];
    row /= in_box;
  }
  const long long begin = coordinates[0], end = begin + map.box[0];
  const long long first = std::max(begin, 0ll);
  const long long last = std::min(end, static_cast<long long>(map.dims[0]));
  if (first >= last) return nullptr;
  skipped_bytes = static_cast<int>(first - begin) * map.element_bytes;
  bytes = static_cast<int>(last - first) * map.element_bytes;
  return reinterpret_cast<u8*>(address + static_cast<u64>(first * map.element_bytes));
}

std::size_t BoxPlace::shared_offset(int row, int byte) const {
  const std::size_t begin = Block::instance().offset_of(shared);
  return swizzled(begin + static_cast<std::size_t>(row * row_bytes() + byte), map.swizzle_bytes);
}

}  // namespace quire::emulator
