// CPU backend of NVFP4 key-value caches.
#pragma once

#include "nvfp4_kv/nvfp4_kv_types.h"

namespace quire::cpu {

void nvfp4_kv_dequantize(const kernels::Nvfp4Config& config, const kernels::Nvfp4Params& params);
void nvfp4_kv_quantize(const kernels::Nvfp4Config& config, const kernels::Nvfp4Params& params);

}  // namespace quire::cpu
