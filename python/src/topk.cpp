#include "quire/topk.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using OptionalTensor = std::optional<TensorView>;

TopKOptions options_of(const OptionalTensor& row_starts, const OptionalTensor& lengths,
                       bool highest_index, int next_n = 1, int compress_ratio = 1) {
  return {.row_starts = row_starts,
          .lengths = lengths,
          .next_n = next_n,
          .compress_ratio = compress_ratio,
          .tie_break = highest_index ? TieBreak::highest_index : TieBreak::lowest_index};
}

void select(Tensor input, OptionalTensor values, OptionalTensor indices, OptionalTensor row_starts,
            OptionalTensor lengths, bool highest_index, int next_n, int compress_ratio,
            std::int64_t stream) {
  top_k(input, values, indices,
        options_of(row_starts, lengths, highest_index, next_n, compress_ratio), to_stream(stream));
}

void ragged(Tensor input, Tensor offsets, Tensor out, OptionalTensor row_starts,
            OptionalTensor lengths, bool highest_index, OptionalTensor raw_indices,
            std::int64_t stream) {
  top_k_ragged_transform(input, offsets, out, options_of(row_starts, lengths, highest_index),
                         raw_indices, to_stream(stream));
}

void paged(Tensor input, Tensor table, OptionalTensor row_to_batch, OptionalTensor table_starts,
           int page_size, Tensor out, OptionalTensor row_starts, OptionalTensor lengths,
           bool highest_index, OptionalTensor raw_indices, std::int64_t stream) {
  const TopKPageTable pages{.table = table,
                            .row_to_batch = row_to_batch,
                            .row_starts = table_starts,
                            .page_size = page_size};
  top_k_page_table_transform(input, pages, out, options_of(row_starts, lengths, highest_index),
                             raw_indices, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k, translated(select));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k_ragged_transform, translated(ragged));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(top_k_page_table_transform, translated(paged));

}  // namespace quire::python
