#include "emulator/tensor_map.h"

#include <fmt/format.h>

#include <cstdint>

#include "emulator/device_state.h"
#include "emulator/fake_driver.h"

namespace quire::emulator {
namespace {

using kernels::u32;
using kernels::u64;

constexpr u64 kMagic = 0xf11e'0000'7e45'0000;
// Bits that no address has: see foreign_pointer() in launch.cpp.
constexpr u64 kNoAddress = 1ull << 63;

int bytes_of(int data_type) {
  constexpr int kBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};  // CUtensorMapDataType
  return data_type >= 0 && data_type < 13 ? kBytes[data_type] : 0;
}

std::string dimension_problem(const TensorMapInfo& info, int i, u32 element_stride) {
  if (info.dims[i] < 1 || info.dims[i] > 1ull << 32) {
    return fmt::format("dimension {}: {} elements, expected 1 to 2^32", i, info.dims[i]);
  }
  if (i > 0 && (info.strides[i] % 16 != 0 || info.strides[i] >= 1ull << 40)) {
    return fmt::format("dimension {}: stride of {} bytes, expected a multiple of 16 below 2^40", i,
                       info.strides[i]);
  }
  if (info.box[i] < 1 || info.box[i] > 256) {
    return fmt::format("dimension {}: box of {} elements, expected 1 to 256", i, info.box[i]);
  }
  // The driver takes 1 to 8; the emulator knows dense boxes only.
  if (element_stride != 1) return fmt::format("dimension {}: element stride not 1", i);
  return {};
}

// The rules of cuTensorMapEncodeTiled in the driver API's manual.
std::string problem(const TensorMapInfo& info, const u32* element_strides) {
  if (info.base % 16 != 0) return fmt::format("base {:#x} is not aligned to 16 bytes", info.base);
  for (int i = 0; i < info.rank; ++i) {
    const std::string text = dimension_problem(info, i, element_strides[i]);
    if (!text.empty()) return text;
  }
  if (info.inner_bytes() % 16 != 0) {
    return fmt::format("rows of a box have {} bytes, expected a multiple of 16",
                       info.inner_bytes());
  }
  if (info.swizzle_bytes != 0 && info.inner_bytes() > info.swizzle_bytes) {
    return fmt::format("rows of a box have {} bytes, more than the swizzle's {}",
                       info.inner_bytes(), info.swizzle_bytes);
  }
  return {};
}

cuda::Result encode_tiled(void* map, int data_type, std::uint32_t rank, void* base,
                          const std::uint64_t* dims, const std::uint64_t* strides,
                          const std::uint32_t* box, const std::uint32_t* element_strides,
                          int interleave, int swizzle, int l2_promotion, int fill) {
  DeviceState& state = device_state();
  const auto fail = [&](const std::string& text) {
    const std::lock_guard lock(state.mutex);
    return state.fail(kInvalidValue, "tensor_map_encode_tiled: " + text);
  };
  if (current_device() == nullptr) return kInvalidContext;
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) return fail("map not aligned to 64 bytes");
  if (bytes_of(data_type) == 0) return fail(fmt::format("data type {}", data_type));
  if (rank < 1 || rank > TensorMapInfo::kMaxRank) return fail(fmt::format("rank {}", rank));
  if (swizzle < 0 || swizzle > 3 || l2_promotion < 0 || l2_promotion > 3) {
    return fail("unknown swizzle or promotion");
  }
  if (interleave != 0 || fill != 0) {
    return fail("the emulator has neither interleaved layouts nor fills with NaN");
  }
  TensorMapInfo info{.rank = static_cast<int>(rank),
                     .element_bytes = bytes_of(data_type),
                     .swizzle_bytes = swizzle == 0 ? 0 : 16 << swizzle,
                     .base = reinterpret_cast<u64>(base)};
  for (std::uint32_t i = 0; i < rank; ++i) {
    info.dims[i] = dims[i];
    info.strides[i] = i == 0 ? static_cast<u64>(info.element_bytes) : strides[i - 1];
    info.box[i] = box[i];
  }
  if (const std::string text = problem(info, element_strides); !text.empty()) return fail(text);
  u64 words[16];
  encode(info, words);
  for (int i = 0; i < 16; ++i) static_cast<u64*>(map)[i] = words[i];
  return kSuccess;
}

}  // namespace

int TensorMapInfo::box_rows() const {
  int rows = 1;
  for (int i = 1; i < rank; ++i) rows *= static_cast<int>(box[i]);
  return rows;
}

void encode(const TensorMapInfo& info, u64 (&words)[16]) {
  for (u64& word : words) word = 0;
  words[0] = kMagic;
  words[1] = info.base;
  words[2] = kNoAddress | static_cast<u64>(info.rank) << 16 |
             static_cast<u64>(info.element_bytes) << 8 | static_cast<u64>(info.swizzle_bytes);
  for (int i = 0; i < TensorMapInfo::kMaxRank; ++i) {
    const u64 last = info.dims[i] == 0 ? 0 : info.dims[i] - 1;
    words[3 + i] = kNoAddress | static_cast<u64>(info.box[i]) << 32 | last;
    words[8 + i] = kNoAddress | info.strides[i];
  }
}

std::optional<TensorMapInfo> decode_tensor_map(const u64* words) {
  if (words[0] != kMagic) return std::nullopt;
  TensorMapInfo info{.rank = static_cast<int>(words[2] >> 16 & 0xff),
                     .element_bytes = static_cast<int>(words[2] >> 8 & 0xff),
                     .swizzle_bytes = static_cast<int>(words[2] & 0xff),
                     .base = words[1]};
  for (int i = 0; i < info.rank; ++i) {
    info.dims[i] = (words[3 + i] & 0xffffffffu) + 1;
    info.box[i] = static_cast<u32>(words[3 + i] >> 32 & 0x1ff);
    info.strides[i] = words[8 + i] & ~kNoAddress;
  }
  return info;
}

void add_tensor_map_calls(cuda::DriverTable& table) {
  table.tensor_map_encode_tiled = encode_tiled;
}

}  // namespace quire::emulator
