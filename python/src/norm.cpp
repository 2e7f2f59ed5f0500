#include "quire/norm.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

void norm(Tensor input, Tensor weight, Tensor out, double eps, std::int64_t stream) {
  rms_norm(input, weight, out, static_cast<float>(eps), to_stream(stream));
}

void fused_add(Tensor input, Tensor residual, Tensor weight, double eps, std::int64_t stream) {
  fused_add_rms_norm(input, residual, weight, static_cast<float>(eps), to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm, translated(norm));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fused_add_rms_norm, translated(fused_add));

}  // namespace quire::python
