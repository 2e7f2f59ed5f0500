// Where the rows of an append go: a slot mapping, or the arrays of a page table.
#pragma once

#include <optional>

#include "quire/append.h"

namespace quire::python {

// Without slot_mapping all the others are given: the Python functions see to it.
inline AppendRows to_append_rows(const std::optional<TensorView>& slot_mapping,
                                 const std::optional<TensorView>& batch_indices,
                                 const std::optional<TensorView>& positions,
                                 const std::optional<TensorView>& kv_indptr,
                                 const std::optional<TensorView>& kv_indices,
                                 const std::optional<TensorView>& kv_last_page_len) {
  if (slot_mapping) return AppendRows(*slot_mapping);
  return AppendRows(batch_indices.value(), positions.value(),
                    {kv_indptr.value(), kv_indices.value(), kv_last_page_len.value()});
}

}  // namespace quire::python
