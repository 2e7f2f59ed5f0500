// CPU backend of softmax, argmax and the samplers.
#pragma once

#include "sampling/sampling_types.h"

namespace quire::cpu {

void softmax(kernels::DType dtype, const kernels::SoftmaxParams& params);
void argmax(kernels::DType dtype, const kernels::ArgmaxParams& params);
void sample(kernels::TokenFilter filter, const kernels::SampleParams& params);

}  // namespace quire::cpu
