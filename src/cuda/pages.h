// CUDA backend of copies of whole pages.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "pages/pages_types.h"

namespace quire::cuda {

// Word size and threads of `config` are chosen here.
void copy_pages(kernels::PageCopyConfig config, const kernels::PageCopyParams& params,
                int device_index, Stream stream);

std::vector<ListedKernel> pages_kernels();

}  // namespace quire::cuda
