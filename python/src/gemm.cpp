#include "quire/gemm.h"

#include "conversion.h"

namespace quire::python {

namespace {

void product(TensorView a, TensorView weight, TensorView out, std::int64_t stream) {
  gemm(a, weight, out, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(gemm, translated(product));

}  // namespace quire::python
