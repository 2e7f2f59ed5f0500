#include "quire/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <utility>

#include "quire/error.h"

// The address sanitizer ends the process at an allocation of absurd size unless it is told to fail
// like malloc.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace quire {
namespace {

TEST(Device, ParseAndPrint) {
  EXPECT_EQ(parse_device("cpu"), kCpu);
  EXPECT_EQ(parse_device("cuda"), cuda_device(0));
  EXPECT_EQ(parse_device("cuda:0"), cuda_device(0));
  EXPECT_EQ(parse_device("cuda:12"), cuda_device(12));
  EXPECT_EQ(to_string(kCpu), "cpu");
  EXPECT_EQ(to_string(cuda_device(12)), "cuda:12");
  for (const char* text : {"", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda1",
                           "gpu", "cuda:99999999999"}) {
    try {
      parse_device(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.what(), "parse_device: text: got \"" + std::string(text) +
                                  "\", expected \"cpu\", \"cuda\" or \"cuda:N\"");
    }
  }
}

TEST(Buffer, IsAlignedAndMoves) {
  Buffer buffer(1000, kCpu);
  void* const data = buffer.data();
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0u);
  EXPECT_EQ(buffer.size_bytes(), 1000u);
  std::memset(data, 1, 1000);

  Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(buffer.data(),
            nullptr);  // NOLINT(bugprone-use-after-move): what a move leaves is stated
  EXPECT_EQ(buffer.size_bytes(), 0u);
  Buffer other(8, kCpu);
  other = std::move(moved);
  EXPECT_EQ(other.data(), data);
  EXPECT_EQ(other.size_bytes(), 1000u);
}

TEST(Buffer, OfNoBytesHoldsNothing) {
  const Buffer buffer(0, kCpu);
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_EQ(buffer.size_bytes(), 0u);
}

TEST(Buffer, TooMuch) {
  for (const std::size_t bytes :
       {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max() / 4}) {
    try {
      const Buffer buffer(bytes, kCpu);
      ADD_FAILURE() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    }
  }
}

TEST(Copy, OnTheHost) {
  const int from[] = {1, 2, 3};
  int to[] = {0, 0, 0};
  copy(to, kCpu, from, kCpu, sizeof(int) * 2);
  EXPECT_EQ(to[0], 1);
  EXPECT_EQ(to[1], 2);
  EXPECT_EQ(to[2], 0);
  EXPECT_NO_THROW(copy(nullptr, kCpu, nullptr, kCpu, 0));
  EXPECT_THROW(copy(nullptr, kCpu, from, kCpu, 4), Error);
  EXPECT_THROW(copy(to, kCpu, nullptr, kCpu, 4), Error);
  EXPECT_NO_THROW(synchronize(kCpu));
}

}  // namespace
}  // namespace quire
