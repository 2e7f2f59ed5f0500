#include <array>
#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda/driver.h"
#include "emulated/primitive_kernel.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class HopperCopies : public HopperTest {};

// Innermost first. By default f16 [3, 2, 20, 64] in boxes of 16 x 64 elements.
struct BoxMap {
  int data_type = cuda::kTensorMapF16;
  std::uint64_t element_bytes = 2;
  std::array<std::uint64_t, 4> dims{64, 20, 2, 3};
  std::array<std::uint64_t, 3> strides{128, 128 * 20, 128 * 40};  // bytes
  std::array<std::uint32_t, 4> box{64, 16, 1, 1};
  std::array<std::uint32_t, 4> element_strides{1, 1, 1, 1};
  int swizzle = cuda::kSwizzle128;
  std::size_t offset = 0;  // of the base, in bytes

  std::size_t box_bytes() const { return box[0] * box[1] * box[2] * box[3] * element_bytes; }
};

cuda::Result encode(const BoxMap& m, const TestTensor& tensor, quire::tile::TensorMap& map) {
  const cuda::DeviceGuard guard(test_device().index);
  void* base = static_cast<std::uint8_t*>(tensor.view().data) + m.offset;
  return cuda::driver().tensor_map_encode_tiled(
      &map, m.data_type, 4, base, m.dims.data(), m.strides.data(), m.box.data(),
      m.element_strides.data(), 0, m.swizzle, cuda::kPromote128, 0);
}

std::vector<std::uint8_t> numbered(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::uint8_t>(i * 37 + i / 251 + 1);
  return bytes;
}

using Coordinates = std::array<std::int32_t, 4>;

// The swizzle, of boxes that begin where its pattern does.
std::size_t swizzled(const BoxMap& m, std::size_t at) {
  const std::size_t mask = m.swizzle == 0 ? 0 : (1u << m.swizzle) - 1;
  return at ^ (at >> 7 & mask) << 4;
}

// Calls visit(byte in the box, byte in the tensor) for each element that the tensor has.
template <class Visit>
void for_each_element(const BoxMap& m, const Coordinates& c, Visit&& visit) {
  for (std::size_t i = 0; i < m.box_bytes() / m.element_bytes; ++i) {
    std::size_t rest = i, source = m.offset;
    bool inside = true;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::int64_t x = c[k] + static_cast<std::int64_t>(rest % m.box[k]);
      rest /= m.box[k];
      inside = inside && x >= 0 && x < static_cast<std::int64_t>(m.dims[k]);
      source += static_cast<std::size_t>(x) * (k == 0 ? m.element_bytes : m.strides[k - 1]);
    }
    if (inside) visit(i * m.element_bytes, source);
  }
}

// Zero where the tensor has no element.
std::vector<std::uint8_t> expected_boxes(const BoxMap& m, const std::vector<std::uint8_t>& data,
                                         const std::vector<Coordinates>& boxes) {
  std::vector<std::uint8_t> out(boxes.size() * m.box_bytes());
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for_each_element(m, boxes[i], [&](std::size_t in_box, std::size_t in_tensor) {
      for (std::size_t b = 0; b < m.element_bytes; ++b) {
        out[i * m.box_bytes() + swizzled(m, in_box + b)] = data[in_tensor + b];
      }
    });
  }
  return out;
}

void test_boxes(const BoxMap& m, const std::vector<Coordinates>& boxes) {
  const std::vector<std::uint8_t> data = numbered(128 * 40 * 3);
  const TestTensor a = TestTensor::bytes(data);
  std::vector<std::int32_t> coordinates;
  for (const Coordinates& c : boxes) coordinates.insert(coordinates.end(), c.begin(), c.end());
  const TestTensor b = TestTensor::ints(coordinates);
  const auto bytes = static_cast<int>(m.box_bytes()), count = static_cast<int>(boxes.size());
  const TestTensor out = TestTensor::poisoned({count * bytes}, DType::u8);
  quire::tile::TensorMap map;
  cuda::check(encode(m, a, map), "cuTensorMapEncodeTiled");
  run_primitive({.header = "boxes.cuh",
                 .function = "load_boxes",
                 .config = {.n = bytes},
                 .params = {.b = b.view().data, .out = out.view().data, .count = count, .map = map},
                 .threads = 64,
                 .smem_bytes = static_cast<std::size_t>(count * bytes) + 8});
  EXPECT_EQ(out.raw(), expected_boxes(m, data, boxes));
  EXPECT_TRUE(out.guards_intact());
}

TEST_F(HopperCopies, BoxesWithSwizzle) {
  test_boxes({}, {{0, 0, 0, 0}, {0, 3, 1, 2}, {0, 4, 0, 1}});
}
TEST_F(HopperCopies, OutsideIsZero) {
  test_boxes({}, {{0, 10, 1, 2},
                  {32, 0, 0, 0},
                  {0, -5, 0, 1},
                  {-8, 2, 1, 0},
                  {0, 0, 0, 3},
                  {0, 0, -1, 0},
                  {64, 0, 0, 0},
                  {0, 30, 0, 0}});
}
TEST_F(HopperCopies, WithoutSwizzle) {
  test_boxes({.box = {32, 8, 2, 1}, .swizzle = cuda::kNoSwizzle}, {{0, 0, 0, 0}, {40, 15, 0, 1}});
}
TEST_F(HopperCopies, NarrowSwizzles) {
  test_boxes({.box = {32, 16, 1, 1}, .swizzle = cuda::kSwizzle64}, {{0, 0, 0, 0}, {32, 5, 1, 1}});
  test_boxes({.box = {16, 16, 1, 2}, .swizzle = cuda::kSwizzle32}, {{0, 0, 0, 0}, {48, 5, 1, 2}});
}
TEST_F(HopperCopies, OrderOfDimensionsIsFree) {
  // Rows of 64 elements at a stride beyond that of the dimension after.
  test_boxes({.dims = {64, 20, 2, 3}, .strides = {256, 128, 128 * 40}, .box = {64, 8, 2, 1}},
             {{0, 0, 0, 0}, {0, 14, 0, 2}});
}
// A page of one head of a paged pool, panel by panel: f16 [2 pages, 8 tokens, 3 heads, 128].
TEST_F(HopperCopies, PanelsOfFiveDimensions) {
  constexpr std::size_t kTokens = 8, kHeads = 3, kRow = 256, kBytes = kTokens * kRow;
  const std::vector<std::uint8_t> data = numbered(2 * kTokens * kHeads * kRow);
  const TestTensor a = TestTensor::bytes(data);
  const std::array<std::uint64_t, 5> dims{64, kTokens, 2, kHeads, 2};
  const std::array<std::uint64_t, 4> strides{kHeads * kRow, 128, kRow, kTokens * kHeads * kRow};
  const std::array<std::uint32_t, 5> box{64, kTokens, 2, 1, 1}, steps{1, 1, 1, 1, 1};
  quire::tile::TensorMap map;
  {
    const cuda::DeviceGuard guard(test_device().index);
    cuda::check(cuda::driver().tensor_map_encode_tiled(
                    &map, cuda::kTensorMapF16, 5, a.view().data, dims.data(), strides.data(),
                    box.data(), steps.data(), 0, cuda::kSwizzle128, cuda::kPromote128, 0),
                "cuTensorMapEncodeTiled");
  }
  const TestTensor b = TestTensor::ints({0, 0, 0, 1, 1, /* no such page */ 0, 0, 0, 1, 2});
  const TestTensor out = TestTensor::poisoned({2 * static_cast<std::int64_t>(kBytes)}, DType::u8);
  run_primitive({.header = "boxes.cuh",
                 .function = "load_5d_boxes",
                 .config = {.n = kBytes},
                 .params = {.b = b.view().data, .out = out.view().data, .count = 2, .map = map},
                 .threads = 64,
                 .smem_bytes = 2 * kBytes + 8});
  const std::vector<std::uint8_t> got = out.raw();
  for (std::size_t panel = 0; panel < 2; ++panel) {
    for (std::size_t token = 0; token < kTokens; ++token) {
      for (std::size_t i = 0; i < 128; ++i) {
        const std::size_t at = (panel * kTokens + token) * 128 + (i ^ token % 8 * 16);
        ASSERT_EQ(got[at], data[((kTokens + token) * kHeads + 1) * kRow + panel * 128 + i]);
        ASSERT_EQ(got[kBytes + at], 0);
      }
    }
  }
}
TEST_F(HopperCopies, Bytes) {
  test_boxes({.data_type = cuda::kTensorMapU8,
              .element_bytes = 1,
              .dims = {120, 20, 2, 3},
              .box = {128, 16, 1, 1}},
             {{0, 0, 0, 0}, {16, 12, 1, 2}});
}

void test_stores(const std::vector<Coordinates>& boxes) {
  const BoxMap m{.dims = {56, 20, 2, 3}};
  const std::size_t bytes = m.box_bytes() * boxes.size();
  std::vector<std::uint8_t> written = numbered(bytes);
  std::vector<std::uint8_t> tensor(128 * 40 * 3, 0xee), expected = tensor;
  const TestTensor a = TestTensor::bytes(written), out = TestTensor::bytes(tensor);
  std::vector<std::int32_t> coordinates;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    coordinates.insert(coordinates.end(), boxes[i].begin(), boxes[i].end());
    for_each_element(m, boxes[i], [&](std::size_t in_box, std::size_t in_tensor) {
      for (std::size_t b = 0; b < m.element_bytes; ++b) {
        expected[in_tensor + b] = written[i * m.box_bytes() + swizzled(m, in_box + b)];
      }
    });
  }
  const TestTensor b = TestTensor::ints(coordinates);
  quire::tile::TensorMap map;
  cuda::check(encode(m, out, map), "cuTensorMapEncodeTiled");
  run_primitive({.header = "boxes.cuh",
                 .function = "store_boxes",
                 .config = {.n = static_cast<int>(m.box_bytes())},
                 .params = {.a = a.view().data,
                            .b = b.view().data,
                            .count = static_cast<int>(boxes.size()),
                            .map = map},
                 .threads = 64,
                 .smem_bytes = bytes});
  EXPECT_EQ(out.raw(), expected);
  EXPECT_TRUE(out.guards_intact());
}

TEST_F(HopperCopies, BoxesToTheTensor) { test_stores({{0, 0, 0, 0}, {0, 10, 1, 2}}); }
TEST_F(HopperCopies, BoxesPastItsColumns) { test_stores({{32, 16, 1, 0}}); }
TEST_F(HopperCopies, BoxesOutsideOfIt) { test_stores({{0, 0, 0, 3}}); }

TEST_F(HopperCopies, DriverRefusesWhatTheEngineCannot) {
  const TestTensor a = TestTensor::bytes(numbered(128 * 40 * 3));
  quire::tile::TensorMap map;
  ASSERT_EQ(encode({}, a, map), 0);
  const std::array<std::function<void(BoxMap&)>, 9> mistakes = {
      [](BoxMap& m) { m.offset = 8; },
      [](BoxMap& m) { m.strides[0] = 120; },
      [](BoxMap& m) { m.strides[2] = std::uint64_t{1} << 40; },
      [](BoxMap& m) { m.box[1] = 257; },
      [](BoxMap& m) { m.box[1] = 0; },
      [](BoxMap& m) { m.box[0] = 128; },  // more than the swizzle
      [](BoxMap& m) { m.box[0] = 4; },
      [](BoxMap& m) { m.dims[3] = 0; },
      [](BoxMap& m) { m.dims[3] = (std::uint64_t{1} << 32) + 1; }};
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    BoxMap m;
    mistakes[i](m);
    EXPECT_EQ(encode(m, a, map), 1) << i;  // CUDA_ERROR_INVALID_VALUE
  }
}

}  // namespace
}  // namespace quire::test
