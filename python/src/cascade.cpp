#include "quire/cascade.h"

#include <vector>

#include "conversion.h"

namespace quire::python {

namespace {

std::vector<std::int32_t> ints(std::string_view argument, const TensorView& tensor) {
  const auto values = host_ints("find_cascade", argument, tensor);
  return {values.begin(), values.end()};
}

// For each level qo_indptr, kv_indptr, kv_indices and kv_last_page_len.
ffi::Array<ffi::Array<ffi::Tensor>> find(TensorView qo_indptr, TensorView indptr,
                                         TensorView indices, TensorView last_page_len,
                                         int page_size, int min_shared_tokens, int max_levels) {
  const KvPool::Table table{ints("table.indptr", indptr), ints("table.indices", indices),
                            ints("table.last_page_len", last_page_len)};
  ffi::Array<ffi::Array<ffi::Tensor>> levels;
  for (const CascadeTable& level :
       find_cascade(host_ints("find_cascade", "qo_indptr", qo_indptr), table, page_size,
                    {.min_shared_tokens = min_shared_tokens, .max_levels = max_levels})) {
    levels.push_back({to_host_tensor(level.qo_indptr), to_host_tensor(level.table.indptr),
                      to_host_tensor(level.table.indices),
                      to_host_tensor(level.table.last_page_len)});
  }
  return levels;
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(find_cascade, translated(find));

}  // namespace quire::python
