#include "quire/append.h"

#include "append_rows.h"
#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

void append(Tensor key, Tensor value, MaybeTensor batch_indices, MaybeTensor positions,
            Tensor k_cache, Tensor v_cache, bool hnd, MaybeTensor kv_indptr, MaybeTensor kv_indices,
            MaybeTensor kv_last_page_len, MaybeTensor slot_mapping, MaybeTensor k_scale,
            double k_number, MaybeTensor v_scale, double v_number, std::int64_t stream) {
  const PagedKv cache{k_cache, v_cache, hnd ? KvLayout::hnd : KvLayout::nhd};
  append_paged_kv(key, value,
                  to_append_rows(slot_mapping, batch_indices, positions, kv_indptr, kv_indices,
                                 kv_last_page_len),
                  cache,
                  {to_fp8_scale(k_scale, k_number, false), to_fp8_scale(v_scale, v_number, false)},
                  to_stream(stream));
}

void append_mla(Tensor ckv, Tensor kpe, MaybeTensor batch_indices, MaybeTensor positions,
                Tensor ckv_cache, Tensor kpe_cache, MaybeTensor kv_indptr, MaybeTensor kv_indices,
                MaybeTensor kv_last_page_len, MaybeTensor slot_mapping, MaybeTensor ckv_scale,
                double ckv_number, MaybeTensor kpe_scale, double kpe_number, std::int64_t stream) {
  append_paged_mla(
      ckv, kpe,
      to_append_rows(slot_mapping, batch_indices, positions, kv_indptr, kv_indices,
                     kv_last_page_len),
      ckv_cache, kpe_cache,
      {to_fp8_scale(ckv_scale, ckv_number, false), to_fp8_scale(kpe_scale, kpe_number, false)},
      to_stream(stream));
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
TVM_FFI_DLL_EXPORT_TYPED_FUNC(append_paged_mla, translated(append_mla));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(get_batch_indices_positions, translated(expand));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(get_seq_lens, translated(lengths));

}  // namespace quire::python
