// Planning step after step allocates nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "quire/device.h"
#include "support/planning_step.h"
#include "support/test_device.h"

// Sanitizers have allocators of their own, which must see every call.
#if !QUIRE_SANITIZED

namespace {

std::atomic<bool> g_counts{false};
std::atomic<int> g_allocations{0};

void* allocate(std::size_t bytes) {
  if (g_counts) ++g_allocations;
  if (void* data = std::malloc(bytes == 0 ? 1 : bytes)) return data;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }

namespace quire::test {
namespace {

TEST(AttentionPlanning, AllocatesNothingInSteadyState) {
  const std::vector<std::pair<Lens, Lens>> kinds = {
      {{1, 1, 1, 1}, {60, 3, 0, 17}}, {{200, 1, 90}, {200, 60, 100}}, {{1, 1}, {250, 250}}};
  for (const auto& [qo_lens, kv_lens] : kinds) {
    const Step step(qo_lens, kv_lens);
    Lens shorter = kv_lens;
    for (std::int32_t& len : shorter) len -= len / 5;
    const Step next(qo_lens, shorter);
    for (const int fixed_split_size : {0, 16}) {
      BatchAttention attention(test_device());
      const AttentionPlanOptions options{.causal = true, .fixed_split_size = fixed_split_size};
      // A copy that is in flight keeps its buffer: on a GPU that others use, plans would get ahead.
      const auto plan = [&](const Step& s) {
        attention.plan(kShape, s.qo_indptr(), s.table(), options);
        synchronize(test_device());
      };
      for (int i = 0; i < 6; ++i) plan(i % 2 == 0 ? step : next);
      g_allocations = 0;
      g_counts = true;
      for (int i = 0; i < 6; ++i) plan(i % 2 == 0 ? step : next);
      g_counts = false;
      EXPECT_EQ(g_allocations, 0) << qo_lens[0] << " split " << fixed_split_size;
    }
  }
}

TEST(AttentionPlanning, TheCounterCounts) {
  g_allocations = 0;
  g_counts = true;
  BatchAttention attention(test_device());
  g_counts = false;
  EXPECT_GT(g_allocations, 0);
}

}  // namespace
}  // namespace quire::test

#endif
