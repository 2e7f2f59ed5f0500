#include "quire/activation.h"

#include "conversion.h"

namespace quire::python {

namespace {

void silu(TensorView input, TensorView out, std::int64_t stream) {
  silu_and_mul(input, out, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(silu_and_mul, translated(silu));

}  // namespace quire::python
