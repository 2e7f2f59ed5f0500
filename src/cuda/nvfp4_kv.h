// CUDA backend of NVFP4 key-value caches.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "nvfp4_kv/nvfp4_kv_types.h"

namespace quire::cuda {

// Accesses of the configurations are chosen here.
void nvfp4_kv_dequantize(kernels::Nvfp4Config config, const kernels::Nvfp4Params& params,
                         int device_index, Stream stream);
void nvfp4_kv_quantize(kernels::Nvfp4Config config, const kernels::Nvfp4Params& params,
                       int device_index, Stream stream);

std::vector<ListedKernel> nvfp4_kv_kernels();

}  // namespace quire::cuda
