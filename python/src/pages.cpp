#include "quire/pages.h"

#include <vector>

#include "conversion.h"

namespace quire::python {

namespace {

template <void (*function)(const TensorView&, const TensorView&, const TensorView&, Stream)>
void apply(TensorView a, TensorView b, TensorView c, std::int64_t stream) {
  function(a, b, c, to_stream(stream));
}

void copy_in_all(ffi::Array<ffi::Tensor> pools, TensorView src, TensorView dst,
                 std::int64_t stream) {
  std::vector<TensorView> views;
  for (const ffi::Tensor& pool : pools) views.push_back(import_tensor(*pool.GetDLTensorPtr()));
  copy_pages(views, src, dst, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(copy_pages, translated(apply<copy_pages>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(copy_pages_of_all, translated(copy_in_all));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gather_pages, translated(apply<gather_pages>));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scatter_pages, translated(apply<scatter_pages>));

}  // namespace quire::python
