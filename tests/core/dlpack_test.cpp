#include "quire/dlpack.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "quire/error.h"

namespace quire {
namespace {

// As <dlpack/dlpack.h> declares it, in nested structs.
struct ForeignDevice {
  std::int32_t device_type;
  std::int32_t device_id;
};
struct ForeignType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
struct ForeignTensor {
  void* data;
  ForeignDevice device;
  std::int32_t ndim;
  ForeignType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

constexpr std::array kDTypes = {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2,
                                DType::i32, DType::i64, DType::u8,   DType::boolean};

TEST(DLPack, RoundTripOfEveryDTypeAndRank) {
  std::array<std::uint64_t, 4> memory{};
  for (const DType dtype : kDTypes) {
    for (int rank = 0; rank <= kMaxRank; ++rank) {
      for (const Device device : {kCpu, cuda_device(3)}) {
        TensorView view{memory.data(), dtype, device, rank, {}, {}};
        for (int i = 0; i < rank; ++i) {
          view.shape[i] = i + 1;
          view.strides[i] = 7 - 3 * i;
        }
        std::array<std::int64_t, 2 * kMaxRank> storage{};
        const auto foreign = to_dlpack<ForeignTensor>(view, storage);
        EXPECT_EQ(foreign.ndim, rank);
        EXPECT_EQ(foreign.device.device_type, device.is_cpu() ? 1 : 2);
        EXPECT_EQ(foreign.dtype.bits, 8 * size_bytes(dtype));
        EXPECT_EQ(to_string(from_dlpack(foreign)), to_string(view));
        EXPECT_EQ(from_dlpack(foreign).data, view.data);
      }
    }
  }
}

TEST(DLPack, TypeCodesAreThoseOfTheStandard) {
  const struct {
    DType dtype;
    int code;
  } kCodes[] = {{DType::i32, 0},     {DType::u8, 1},      {DType::f32, 2},    {DType::bf16, 4},
                {DType::boolean, 6}, {DType::f8e4m3, 10}, {DType::f8e5m2, 12}};
  for (const auto& each : kCodes) {
    const auto view = TensorView::contiguous(nullptr, each.dtype, std::vector<std::int64_t>{});
    EXPECT_EQ(to_dlpack(view, {}).type_code, each.code) << name(each.dtype);
  }
}

TEST(DLPack, OffsetAndMissingStrides) {
  std::vector<float> data(64);
  std::int64_t shape[] = {2, 3};
  const ForeignTensor foreign{data.data(), {3, 0}, 2, {2, 32, 1}, shape, nullptr, 16};
  const TensorView view = from_dlpack(foreign);
  EXPECT_EQ(view.data, data.data() + 4);
  EXPECT_EQ(to_string(view), "f32 [2, 3] strides [3, 1] on cpu") << "pinned host memory is host's";
}

TEST(DLPack, WhatHasNoCounterpartIsRefused) {
  std::int64_t shape[] = {2, 3};
  const ForeignTensor good{nullptr, {1, 0}, 2, {2, 32, 1}, shape, nullptr, 0};
  const auto code_of = [](const ForeignTensor& tensor) -> int {
    try {
      from_dlpack(tensor);
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
    return -1;
  };
  EXPECT_EQ(code_of(good), -1);
  ForeignTensor bad = good;
  bad.dtype = {2, 64, 1};  // double
  EXPECT_EQ(code_of(bad), static_cast<int>(ErrorCode::wrong_type));
  bad = good;
  bad.dtype.lanes = 4;
  EXPECT_EQ(code_of(bad), static_cast<int>(ErrorCode::wrong_type));
  bad = good;
  bad.device.device_type = 10;  // ROCm
  EXPECT_EQ(code_of(bad), static_cast<int>(ErrorCode::not_implemented));
  bad = good;
  bad.ndim = 9;
  EXPECT_EQ(code_of(bad), static_cast<int>(ErrorCode::invalid_argument));
  bad.ndim = -1;
  EXPECT_EQ(code_of(bad), static_cast<int>(ErrorCode::invalid_argument));
  shape[1] = -3;
  EXPECT_EQ(code_of(good), static_cast<int>(ErrorCode::invalid_argument));
}

TEST(DLPack, TooLittleRoomForShape) {
  const auto view = TensorView::contiguous(nullptr, DType::f32, {2, 3});
  std::array<std::int64_t, 3> storage{};
  EXPECT_THROW(to_dlpack(view, storage), Error);
}

}  // namespace
}  // namespace quire
