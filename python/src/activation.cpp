#include "quire/activation.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

template <void (*function)(const TensorView&, const TensorView&, Stream)>
void apply(Tensor input, Tensor out, std::int64_t stream) {
  function(input, out, to_stream(stream));
}

template <void (*function)(const TensorView&, const TensorView&, const Fp8Scale&, Stream)>
void quantize(Tensor input, Tensor out, MaybeTensor scale, double number, bool computed,
              bool power_of_two, std::int64_t stream) {
  function(input, out, to_fp8_scale(scale, number, computed, power_of_two), to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(silu_and_mul, translated(apply<silu_and_mul>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gelu_and_mul, translated(apply<gelu_and_mul>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gelu_tanh_and_mul, translated(apply<gelu_tanh_and_mul>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(silu_and_mul_quant, translated(quantize<silu_and_mul_quant>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gelu_and_mul_quant, translated(quantize<gelu_and_mul_quant>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gelu_tanh_and_mul_quant,
                              translated(quantize<gelu_tanh_and_mul_quant>));

}  // namespace quire::python
