// CPU backend of fp8 quantization and bit packing.
#pragma once

#include "quantize/quantize_types.h"

namespace quire::cpu {

void quantize(const kernels::QuantizeConfig& config, const kernels::QuantizeParams& params);
void dequantize(const kernels::DequantizeConfig& config, const kernels::DequantizeParams& params);
void packbits(const kernels::PackConfig& config, const kernels::PackParams& params);

}  // namespace quire::cpu
