// Staging memory of plans, with a driver whose copies are done only when the test says so.
#include "cuda/staging.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "quire/attention.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

constexpr cuda::Result kNotReady = 600;

struct Copy {
  cuda::DevicePtr dst;
  const void* src;
  std::size_t bytes;
};

// Copies wait in a queue, in the order of the one stream there is; an event is done when the copies
// before it are.
struct SlowDriver {
  cuda::DriverTable real;
  std::vector<Copy> copies;
  std::size_t num_done = 0;
  std::map<cuda::Event, std::size_t> events;
  int waits = 0;

  void finish(std::size_t count) {
    const cuda::DeviceGuard guard(test_device().index);
    for (; num_done < count; ++num_done) {
      const Copy& c = copies[num_done];
      ASSERT_EQ(real.memcpy_htod_async(c.dst, c.src, c.bytes, nullptr), 0);
    }
    ASSERT_EQ(real.stream_synchronize(nullptr), 0);
  }
};
SlowDriver* g_slow = nullptr;

class Staging : public testing::Test {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "staging is CUDA's";
  }
  // From here on copies to the device wait.
  void slow_down() {
    slow_.real = cuda::driver();
    g_slow = &slow_;
    static cuda::DriverTable table;
    table = slow_.real;
    table.memcpy_htod_async = [](cuda::DevicePtr dst, const void* src, std::size_t bytes,
                                 cuda::StreamHandle) {
      g_slow->copies.push_back({dst, src, bytes});
      return cuda::Result{0};
    };
    table.event_record = [](cuda::Event event, cuda::StreamHandle) {
      g_slow->events[event] = g_slow->copies.size();
      return cuda::Result{0};
    };
    table.event_query = [](cuda::Event event) {
      return g_slow->events[event] <= g_slow->num_done ? cuda::Result{0} : kNotReady;
    };
    table.event_synchronize = [](cuda::Event event) {
      ++g_slow->waits;
      g_slow->finish(g_slow->events[event]);
      return cuda::Result{0};
    };
    cuda::replace_driver_for_testing(&table);
  }
  void TearDown() override {
    if (g_slow == nullptr) return;
    static cuda::DriverTable restored;
    restored = slow_.real;
    cuda::replace_driver_for_testing(&restored);
    g_slow = nullptr;
  }
  SlowDriver slow_;
};

TEST_F(Staging, ABufferInFlightIsNotWritten) {
  slow_down();
  const Buffer device(64, test_device());
  cuda::StagingRing ring(test_device().index);
  ring.reserve(64);
  constexpr cuda::StagedRange kAll[] = {{0, 64}};
  std::set<const void*> used;
  for (int i = 0; i < 5; ++i) {
    std::byte* host = ring.begin(64, {});
    EXPECT_TRUE(used.insert(host).second) << "buffer " << i << " is in flight";
    std::memset(host, i, 64);
    ring.copy(device.data(), kAll, {});
  }
  for (std::size_t i = 0; i < 5; ++i) {  // what each copy reads when its time comes
    EXPECT_EQ(static_cast<const char*>(slow_.copies[i].src)[63], static_cast<char>(i));
  }
  slow_.finish(1);  // the first is free again
  EXPECT_EQ(ring.begin(64, {}), slow_.copies[0].src);
  ring.copy(device.data(), kAll, {});
  EXPECT_EQ(slow_.waits, 0);
  slow_.finish(slow_.copies.size());
}

TEST_F(Staging, OnlyManyPlansAheadOfTheDeviceWait) {
  slow_down();
  const Buffer device(64, test_device());
  cuda::StagingRing ring(test_device().index);
  constexpr cuda::StagedRange kAll[] = {{0, 64}};
  for (std::size_t i = 0; i < cuda::StagingRing::kMaxBuffers; ++i) {
    ring.begin(64, {});
    ring.copy(device.data(), kAll, {});
  }
  EXPECT_EQ(slow_.waits, 0);
  EXPECT_EQ(ring.begin(64, {}), slow_.copies[0].src);  // waits for the oldest
  EXPECT_EQ(slow_.waits, 1);
  EXPECT_EQ(slow_.num_done, 1u);
  ring.copy(device.data(), kAll, {});
  slow_.finish(slow_.copies.size());
}

TEST_F(Staging, RangesAreCopiedToTheirPlaces) {
  slow_down();
  const Buffer device(64, test_device());
  cuda::StagingRing ring(test_device().index);
  std::byte* host = ring.begin(64, {});
  constexpr cuda::StagedRange kTwo[] = {{0, 8}, {32, 40}};
  ring.copy(device.data(), kTwo, {});
  ASSERT_EQ(slow_.copies.size(), 2u);
  EXPECT_EQ(slow_.copies[1].dst, reinterpret_cast<cuda::DevicePtr>(device.data()) + 32);
  EXPECT_EQ(slow_.copies[1].src, host + 32);
  EXPECT_EQ(slow_.copies[1].bytes, 8u);
  slow_.finish(2);
}

// Plans two and three come before the copies of the first are done.
TEST_F(Staging, AnEngineThatPlansAheadRunsEachPlan) {
  static constexpr AttentionShape kShape{
      .num_qo_heads = 2, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .page_size = 4};
  const TestTensor q = TestTensor::random({1, 2, 64}, DType::bf16, 1);
  const TestTensor k = TestTensor::random({16, 4, 2, 64}, DType::bf16, 2);
  const TestTensor v = TestTensor::random({16, 4, 2, 64}, DType::bf16, 3);
  const TestTensor out = TestTensor::poisoned({1, 2, 64}, DType::bf16);
  const auto plan = [](BatchAttention& attention, int kv_len) {
    const int pages = (kv_len + 3) / 4;
    std::vector<std::int32_t> ids;
    for (int i = 0; i < pages; ++i) ids.push_back(i);
    attention.plan(kShape, TestTensor::ints({0, 1}, kCpu),
                   {TestTensor::ints({0, pages}, kCpu), TestTensor::ints(ids, kCpu),
                    TestTensor::ints({kv_len - (pages - 1) * 4}, kCpu)});
  };
  const auto result = [&](const BatchAttention& attention) {
    attention.run(q, {k, v, KvLayout::nhd}, out);
    return out.values();
  };
  const int kv_lens[] = {60, 3, 33};
  std::vector<std::vector<double>> expected;
  for (const int kv_len : kv_lens) {
    BatchAttention eager(test_device());
    plan(eager, kv_len);
    expected.push_back(result(eager));
  }
  BatchAttention attention(test_device());
  attention.reserve(kShape, {.max_batch_size = 1, .max_total_q = 1, .max_kv_entries = 16});
  slow_down();
  std::vector<std::size_t> copies;
  for (const int kv_len : kv_lens) {
    plan(attention, kv_len);
    copies.push_back(slow_.copies.size());
  }
  EXPECT_EQ(slow_.num_done, 0u);
  EXPECT_EQ(slow_.waits, 0);
  for (std::size_t i = 0; i < copies.size(); ++i) {
    slow_.finish(copies[i]);
    EXPECT_EQ(result(attention), expected[i]) << kv_lens[i];
  }
}

}  // namespace
}  // namespace quire::test
