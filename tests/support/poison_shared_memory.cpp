#include "support/poison_shared_memory.h"

#include "support/test_device.h"

#if QUIRE_WITH_CUDA
#include "cuda/launch.h"
#endif

namespace quire::test {
#if QUIRE_WITH_CUDA
namespace {

// NaN as two bf16, as two f16 and as one f32. Volatile: the stores are never read.
constexpr const char* kHeader = R"(
#pragma once
#include "tile/thread.h"
namespace quire::kernels {
struct PoisonConfig { i32 words = 0; };
struct PoisonParams { i32 unused; };
template <PoisonConfig c>
void poison_shared_memory(const PoisonParams&) {
  auto* words = reinterpret_cast<volatile u32*>(tile::shared_memory());
  for (int i = tile::thread_index(); i < c.words; i += tile::num_threads()) words[i] = 0x7fc07fc0u;
  tile::sync_block();
}
}
)";

}  // namespace

void poison_shared_memory() {
  if (!on_gpu()) return;
  const int device_index = test_device().index;
  const cuda::DeviceLimits& limits = cuda::device_limits(device_index);
  const jit::KernelSpec spec{
      .name = "poison_shared_memory",
      .header = "poison_shared_memory.cuh",
      .function = "poison_shared_memory",
      .config_type = "PoisonConfig",
      .config = "{.words=" + std::to_string(limits.max_smem_per_block / 4) + "}",
      .params_type = "PoisonParams",
      .threads_per_block = 1024,
      .dynamic_smem_bytes = static_cast<std::size_t>(limits.max_smem_per_block),
      .extra_headers = {{"poison_shared_memory.cuh", kHeader}}};
  struct {
    int unused;
  } params{};
  // One block fills a multiprocessor; several rounds reach all of them.
  cuda::launch(cuda::get_kernel(spec, device_index), static_cast<unsigned>(8 * limits.num_sms), 1,
               {}, params);
}
#else
void poison_shared_memory() {}
#endif
}  // namespace quire::test
