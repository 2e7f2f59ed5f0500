#include "quire/embedding.h"

#include "conversion.h"

namespace quire::python {

namespace {

void gather(TensorView table, TensorView indices, TensorView out, std::int64_t stream) {
  gather_rows(table, indices, out, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(gather_rows, translated(gather));

}  // namespace quire::python
