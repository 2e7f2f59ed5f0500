// CUDA backend of fp8 quantization and bit packing.
#pragma once

#include <vector>

#include "cuda/launch.h"
#include "quantize/quantize_types.h"

namespace quire::cuda {

// Vector widths and threads of the configurations are chosen here.
void quantize(kernels::QuantizeConfig config, const kernels::QuantizeParams& params,
              int device_index, Stream stream);
void dequantize(kernels::DequantizeConfig config, const kernels::DequantizeParams& params,
                int device_index, Stream stream);
void packbits(kernels::PackConfig config, const kernels::PackParams& params, int device_index,
              Stream stream);

std::vector<ListedKernel> quantize_kernels();

}  // namespace quire::cuda
