#include "quire/append.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

void append(Tensor key, Tensor value, Tensor batch_indices, Tensor positions, Tensor k_cache,
            Tensor v_cache, bool hnd, Tensor kv_indptr, Tensor kv_indices, Tensor kv_last_page_len,
            std::int64_t stream) {
  append_paged_kv(key, value, batch_indices, positions,
                  {k_cache, v_cache, hnd ? KvLayout::hnd : KvLayout::nhd},
                  {kv_indptr, kv_indices, kv_last_page_len}, to_stream(stream));
}

void expand(Tensor append_indptr, Tensor seq_lens, Tensor batch_indices, Tensor positions,
            std::int64_t stream) {
  get_batch_indices_positions(append_indptr, seq_lens, batch_indices, positions, to_stream(stream));
}

void lengths(Tensor kv_indptr, Tensor kv_last_page_len, int page_size, Tensor seq_lens,
             std::int64_t stream) {
  get_seq_lens(kv_indptr, kv_last_page_len, page_size, seq_lens, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(append_paged_kv, translated(append));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(get_batch_indices_positions, translated(expand));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(get_seq_lens, translated(lengths));

}  // namespace quire::python
