#include "quire/concat.h"

#include "conversion.h"

namespace quire::python {

namespace {

void concat(TensorView k_nope, TensorView k_rope, TensorView k, std::int64_t stream) {
  concat_mla_k(k_nope, k_rope, k, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(concat_mla_k, translated(concat));

}  // namespace quire::python
