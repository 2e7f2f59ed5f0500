#include <algorithm>
#include <cstdint>
#include <functional>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Warp : public PrimitiveTest {};

constexpr int kThreads = 96;

// Whole numbers, no two alike, not in order.
std::vector<double> inputs() {
  std::vector<double> values(kThreads);
  for (int i = 0; i < kThreads; ++i) values[static_cast<std::size_t>(i)] = i * 37 % 101 - 50;
  return values;
}

std::vector<double> row(const std::vector<double>& all, int index) {
  return {all.begin() + index * kThreads, all.begin() + (index + 1) * kThreads};
}

// For every thread, what source(lane) of its warp had.
std::vector<double> gathered(const std::function<int(int lane)>& source) {
  const std::vector<double> x = inputs();
  std::vector<double> result;
  for (int thread = 0; thread < kThreads; ++thread) {
    const int lane = thread % 32;
    result.push_back(x[static_cast<std::size_t>(thread - lane + source(lane))]);
  }
  return result;
}

TEST_F(Warp, Shuffles) {
  for (const int n : {0, 1, 5, 16, 31}) {
    SCOPED_TRACE(n);
    const TestTensor a = TestTensor::from(inputs(), {kThreads}, DType::f32);
    const TestTensor out = TestTensor::poisoned({9, kThreads}, DType::f32);
    run_primitive({.header = "warp.cuh",
                   .function = "shuffles",
                   .config = {.n = n},
                   .params = {.a = a.view().data, .out = out.view().data},
                   .threads = kThreads});
    const std::vector<double> got = out.values();
    for (const int r : {0, 1, 2}) {
      EXPECT_EQ(row(got, r), gathered([&](int lane) { return lane ^ n; })) << r;
    }
    for (const int r : {3, 4, 5}) EXPECT_EQ(row(got, r), gathered([&](int) { return n; })) << r;
    for (const int r : {6, 7}) {
      EXPECT_EQ(row(got, r), gathered([&](int lane) { return lane < n ? lane : lane - n; })) << r;
    }
    EXPECT_EQ(row(got, 8), gathered([&](int lane) { return (lane * 5 + n) % 32; }));
  }
}

TEST_F(Warp, Votes) {
  for (const int threshold : {-1000, -20, 7, 1000}) {
    SCOPED_TRACE(threshold);
    const std::vector<double> x = inputs();
    const TestTensor a = TestTensor::from(x, {kThreads}, DType::f32);
    const TestTensor out = TestTensor::poisoned({3, kThreads}, DType::i32);
    run_primitive({.header = "warp.cuh",
                   .function = "votes",
                   .params = {.a = a.view().data, .out = out.view().data, .count = threshold},
                   .threads = kThreads});
    const std::vector<double> got = out.values();
    for (int thread = 0; thread < kThreads; ++thread) {
      std::uint32_t mask = 0;
      for (int lane = 0; lane < 32; ++lane) {
        const auto at = static_cast<std::size_t>(thread / 32 * 32 + lane);
        if (x[at] > threshold) mask |= 1u << lane;
      }
      const auto t = static_cast<std::size_t>(thread);
      EXPECT_EQ(got[t], static_cast<std::int32_t>(mask));
      EXPECT_EQ(got[kThreads + t], mask != 0);
      EXPECT_EQ(got[2 * kThreads + t], mask == 0xffffffffu);
    }
  }
}

TEST_F(Warp, Reductions) {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    SCOPED_TRACE(width);
    const std::vector<double> x = inputs();
    const TestTensor a = TestTensor::from(x, {kThreads}, DType::f32);
    const TestTensor out = TestTensor::poisoned({3, kThreads}, DType::f32);
    run_primitive({.header = "warp.cuh",
                   .function = "reductions",
                   .config = {.n = width},
                   .params = {.a = a.view().data, .out = out.view().data},
                   .threads = kThreads});
    const std::vector<double> got = out.values();
    for (int thread = 0; thread < kThreads; ++thread) {
      const auto first = x.begin() + thread / width * width;
      double sum = 0;
      for (int i = 0; i < width; ++i) sum += first[i];  // exact: small whole numbers
      const auto t = static_cast<std::size_t>(thread);
      EXPECT_EQ(got[t], sum);
      EXPECT_EQ(got[kThreads + t], *std::max_element(first, first + width));
      EXPECT_EQ(got[2 * kThreads + t], sum);
    }
  }
}

}  // namespace
}  // namespace quire::test
