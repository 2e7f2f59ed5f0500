#include <cstdint>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class AsyncCopies : public PrimitiveTest {};

TEST_F(AsyncCopies, GroupsLandInOrderAndInvalidChunksAreZero) {
  constexpr int kThreads = 64;
  for (const int groups : {1, 2, 4}) {
    SCOPED_TRACE(groups);
    const int num_chunks = groups * kThreads;
    std::vector<std::uint8_t> data(static_cast<std::size_t>(16 * num_chunks));
    std::vector<std::uint8_t> valid(static_cast<std::size_t>(num_chunks));
    std::vector<std::uint8_t> expected(data.size(), 0);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i * 31 + 7);
    for (std::size_t i = 0; i < valid.size(); ++i) {
      valid[i] = i % 5 != 3;
      for (std::size_t j = 16 * i; valid[i] != 0 && j < 16 * (i + 1); ++j) expected[j] = data[j];
    }
    const TestTensor a = TestTensor::bytes(data), b = TestTensor::bytes(valid);
    const TestTensor out = TestTensor::poisoned({16 * num_chunks}, DType::u8);
    run_primitive({.header = "async_copies.cuh",
                   .function = "copy_in_groups",
                   .config = {.n = groups},
                   .params = {.a = a.view().data, .b = b.view().data, .out = out.view().data},
                   .threads = kThreads,
                   .smem_bytes = data.size()});
    EXPECT_EQ(out.raw(), expected);
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST_F(AsyncCopies, LoadsPastL1) {
  constexpr int kThreads = 5, kCount = 4 * kThreads;
  const TestTensor a = TestTensor::random({kCount}, DType::f32, 1);
  const TestTensor out = TestTensor::poisoned({3, kCount}, DType::f32);
  run_primitive({.header = "async_copies.cuh",
                 .function = "load_past_l1",
                 .params = {.a = a.view().data, .out = out.view().data},
                 .threads = kThreads});
  const std::vector<double> got = out.values(), expected = a.values();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], expected[i % kCount]);
  EXPECT_TRUE(out.guards_intact());
}

}  // namespace
}  // namespace quire::test
