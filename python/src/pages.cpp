#include "quire/pages.h"

#include "conversion.h"

namespace quire::python {

namespace {

template <void (*function)(const TensorView&, const TensorView&, const TensorView&, Stream)>
void apply(TensorView a, TensorView b, TensorView c, std::int64_t stream) {
  function(a, b, c, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(copy_pages, translated(apply<copy_pages>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gather_pages, translated(apply<gather_pages>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scatter_pages, translated(apply<scatter_pages>));

}  // namespace quire::python
