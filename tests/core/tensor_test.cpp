#include <gtest/gtest.h>

#include <vector>

#include "quire/error.h"
#include "quire/tensor.h"

namespace quire {
namespace {

template <class Call>
void expect_error(ErrorCode code, const std::string& text, Call&& call) {
  try {
    call();
    ADD_FAILURE() << "no error, expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(error.what(), text);
  }
}

TEST(DType, SizesAndNames) {
  const struct {
    DType dtype;
    std::size_t bytes;
    const char* name;
  } kAll[] = {
      {DType::f32, 4, "f32"},       {DType::f16, 2, "f16"},       {DType::bf16, 2, "bf16"},
      {DType::f8e4m3, 1, "f8e4m3"}, {DType::f8e5m2, 1, "f8e5m2"}, {DType::i32, 4, "i32"},
      {DType::i64, 8, "i64"},       {DType::u8, 1, "u8"},         {DType::boolean, 1, "boolean"}};
  for (const auto& each : kAll) {
    EXPECT_EQ(size_bytes(each.dtype), each.bytes) << each.name;
    EXPECT_EQ(name(each.dtype), each.name);
  }
}

TEST(TensorView, ContiguousIsRowMajor) {
  const auto view = TensorView::contiguous(nullptr, DType::f16, {2, 3, 4}, cuda_device(1));
  EXPECT_EQ(view.rank, 3);
  EXPECT_EQ(view.strides[0], 12);
  EXPECT_EQ(view.strides[1], 4);
  EXPECT_EQ(view.strides[2], 1);
  EXPECT_EQ(view.numel(), 24);
  EXPECT_TRUE(view.is_contiguous());
  EXPECT_EQ(to_string(view), "f16 [2, 3, 4] strides [12, 4, 1] on cuda:1");
}

TEST(TensorView, ScalarAndEmpty) {
  const auto scalar = TensorView::contiguous(nullptr, DType::f32, std::vector<std::int64_t>{});
  EXPECT_EQ(scalar.numel(), 1);
  EXPECT_TRUE(scalar.is_contiguous());
  const auto empty = TensorView::contiguous(nullptr, DType::f32, {3, 0, 5});
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_TRUE(empty.is_contiguous());
  EXPECT_GT(empty.strides[0], 0);
}

TEST(TensorView, ContiguityIgnoresDimensionsOfOneElement) {
  auto view = TensorView::contiguous(nullptr, DType::f32, {4, 1, 8});
  view.strides[1] = 12345;
  EXPECT_TRUE(view.is_contiguous());
  view.strides[0] = 16;
  EXPECT_FALSE(view.is_contiguous());
  view.shape[2] = 0;
  EXPECT_TRUE(view.is_contiguous()) << "nothing to lie anywhere";
}

TEST(TensorView, SliceMovesDataByStride) {
  std::vector<float> data(24);
  const auto view = TensorView::contiguous(data.data(), DType::f32, {2, 3, 4});
  const auto slice = view.slice(1, 1, 3);
  EXPECT_EQ(slice.data, data.data() + 4);
  EXPECT_EQ(slice.shape[1], 2);
  EXPECT_EQ(slice.strides, view.strides);
  EXPECT_FALSE(slice.is_contiguous());
  EXPECT_EQ(view.slice(0, 2, 2).numel(), 0);
  EXPECT_EQ(TensorView::contiguous(nullptr, DType::f32, {4}).slice(0, 1, 2).data, nullptr);
}

TEST(TensorView, Errors) {
  const auto view = TensorView::contiguous(nullptr, DType::f32, {2, 3});
  expect_error(ErrorCode::invalid_argument, "slice: dim: got 2, expected 0 to 1",
               [&] { view.slice(2, 0, 1); });
  expect_error(ErrorCode::invalid_argument, "slice: dim: got -1, expected 0 to 1",
               [&] { view.slice(-1, 0, 1); });
  expect_error(ErrorCode::invalid_argument,
               "slice: range: got [1, 4), expected a range within [0, 3)",
               [&] { view.slice(1, 1, 4); });
  expect_error(ErrorCode::invalid_argument,
               "slice: range: got [2, 1), expected a range within [0, 3)",
               [&] { view.slice(1, 2, 1); });
  expect_error(ErrorCode::invalid_argument, "contiguous: shape: got rank 9, expected at most 8",
               [] { TensorView::contiguous(nullptr, DType::f32, {1, 1, 1, 1, 1, 1, 1, 1, 1}); });
  const std::string product = "expected sizes >= 0 with a product that fits 64 bits";
  expect_error(ErrorCode::invalid_argument, "contiguous: shape: got [2, -1], " + product,
               [] { TensorView::contiguous(nullptr, DType::f32, {2, -1}); });
  expect_error(ErrorCode::invalid_argument,
               "contiguous: shape: got [4294967296, 4294967296], " + product,
               [] { TensorView::contiguous(nullptr, DType::f32, {1LL << 32, 1LL << 32}); });
}

}  // namespace
}  // namespace quire
