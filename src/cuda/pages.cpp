#include "cuda/pages.h"

#include <algorithm>

#include "cuda/driver.h"
#include "cuda/row_kernel.h"

namespace quire::cuda {
namespace {

using kernels::DType;
using kernels::PageCopyConfig;
using kernels::PageCopyParams;

jit::KernelSpec copy_pages_spec(const PageCopyConfig& config) {
  jit::KernelSpec spec;
  spec.name = "copy_pages";
  spec.header = "pages/copy_pages.cuh";
  spec.function = "copy_pages";
  spec.config_type = "PageCopyConfig";
  spec.config = jit::config_literal(config);
  spec.params_type = "PageCopyParams";
  spec.threads_per_block = config.threads;
  return spec;
}

}  // namespace

void copy_pages(PageCopyConfig config, const PageCopyParams& params, int device_index,
                Stream stream) {
  PageCopyParams p = params;
  config.word_bytes =
      access_bytes({p.from, p.to}, {p.row_bytes, p.from_page_stride, p.to_page_stride});
  for (int d = 0; d < p.num_dims; ++d) {
    config.word_bytes =
        std::min(config.word_bytes, access_bytes({}, {p.from_strides[d], p.to_strides[d]}));
  }
  for (int pool = 1; pool < p.num_pools; ++pool) {
    config.word_bytes = std::min(config.word_bytes, access_bytes({}, {p.pool_offsets[pool]}));
  }
  const std::int64_t words = std::int64_t{p.rows} * p.row_bytes / config.word_bytes;
  config.threads = block_threads(words);
  const unsigned blocks = grid_blocks(p.num_copies, config.threads, device_index);
  // Few pages: several blocks share one, each with a few words a thread.
  constexpr int kWordsPerThread = 4, kBlocksPerSm = 8;
  p.shares = static_cast<int>(std::min<std::int64_t>(
      (words + config.threads * kWordsPerThread - 1) / (config.threads * kWordsPerThread),
      std::max<std::int64_t>(1, device_limits(device_index).num_sms * kBlocksPerSm /
                                    (std::int64_t{blocks} * p.num_pools))));
  const Kernel& kernel = get_kernel(copy_pages_spec(config), device_index);
  launch(kernel, blocks, static_cast<unsigned>(p.shares * p.num_pools), stream, p);
}

std::vector<ListedKernel> pages_kernels() {
  std::vector<ListedKernel> list;
  for (const DType index_dtype : {DType::i32, DType::i64}) {
    for (const int word_bytes : {16, 8, 4, 2, 1}) {
      const PageCopyConfig config{.index_dtype = index_dtype, .word_bytes = word_bytes};
      list.push_back({.spec = copy_pages_spec(config), .preset = word_bytes == 16});
    }
  }
  return list;
}

}  // namespace quire::cuda
