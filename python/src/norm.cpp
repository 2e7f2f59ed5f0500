#include "quire/norm.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

void rms(Tensor input, Tensor weight, Tensor out, double eps, bool gemma, std::int64_t stream) {
  (gemma ? gemma_rms_norm : rms_norm)(input, weight, out, static_cast<float>(eps),
                                      to_stream(stream));
}

void fused_add(Tensor input, Tensor residual, Tensor weight, double eps, bool gemma,
               std::int64_t stream) {
  (gemma ? gemma_fused_add_rms_norm : fused_add_rms_norm)(
      input, residual, weight, static_cast<float>(eps), to_stream(stream));
}

void layer(Tensor input, Tensor gamma, Tensor beta, Tensor out, double eps, std::int64_t stream) {
  layer_norm(input, gamma, beta, out, static_cast<float>(eps), to_stream(stream));
}

NormQuantOptions options(double eps, double weight_bias) {
  return {.eps = static_cast<float>(eps), .weight_bias = static_cast<float>(weight_bias)};
}

void rms_quant(Tensor input, Tensor weight, Tensor out, MaybeTensor scale, double number,
               bool computed, double eps, double weight_bias, std::int64_t stream) {
  rms_norm_quant(input, weight, out, to_fp8_scale(scale, number, computed),
                 options(eps, weight_bias), to_stream(stream));
}

void fused_add_quant(Tensor input, Tensor residual, Tensor weight, Tensor out, MaybeTensor scale,
                     double number, bool computed, double eps, double weight_bias,
                     std::int64_t stream) {
  fused_add_rms_norm_quant(input, residual, weight, out, to_fp8_scale(scale, number, computed),
                           options(eps, weight_bias), to_stream(stream));
}

void layer_quant(Tensor input, Tensor gamma, Tensor beta, Tensor out, MaybeTensor scale,
                 double number, bool computed, double eps, std::int64_t stream) {
  layer_norm_quant(input, gamma, beta, out, to_fp8_scale(scale, number, computed), options(eps, 0),
                   to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm, translated(rms));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fused_add_rms_norm, translated(fused_add));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(layer_norm, translated(layer));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm_quant, translated(rms_quant));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fused_add_rms_norm_quant, translated(fused_add_quant));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(layer_norm_quant, translated(layer_quant));

}  // namespace quire::python
