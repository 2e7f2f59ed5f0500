#include <iterator>

#include "cuda/activation.h"
#include "cuda/append.h"
#include "cuda/attention.h"
#include "cuda/embedding.h"
#include "cuda/launch.h"
#include "cuda/logits_processors.h"
#include "cuda/merge.h"
#include "cuda/norm.h"
#include "cuda/nvfp4_kv.h"
#include "cuda/pages.h"
#include "cuda/quantize.h"
#include "cuda/rope.h"
#include "cuda/sampling.h"
#include "cuda/speculative.h"
#include "cuda/topk.h"

namespace quire::cuda {

std::vector<ListedKernel> listed_kernels() {
  std::vector<ListedKernel> all;
  for (const auto kernels_of :
       {activation_kernels, append_kernels, attention_kernels, embedding_kernels,
        logits_processors_kernels, merge_kernels, norm_kernels, nvfp4_kv_kernels, pages_kernels,
        quantize_kernels, rope_kernels, sampling_kernels, speculative_kernels, topk_kernels}) {
    std::vector<ListedKernel> kernels = kernels_of();
    std::move(kernels.begin(), kernels.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace quire::cuda
