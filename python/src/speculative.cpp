#include "quire/speculative.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using OptionalTensor = std::optional<TensorView>;

void chain(Tensor draft_probs, Tensor draft_ids, Tensor target_probs, Tensor ids,
           OptionalTensor accepted, OptionalTensor emitted, OptionalTensor seeds, std::int64_t seed,
           OptionalTensor offsets, std::int64_t offset, std::int64_t stream) {
  chain_speculative_sampling(draft_probs, draft_ids, target_probs, {ids, accepted, emitted},
                             per_row(seeds, seed), per_row(offsets, offset), to_stream(stream));
}

void tree(Tensor draft_ids, Tensor sampled_ids, OptionalTensor parents, OptionalTensor first_child,
          OptionalTensor next_sibling, Tensor ids, Tensor accepted, OptionalTensor path,
          std::int64_t stream) {
  verify_tree({.draft_ids = draft_ids,
               .parents = parents,
               .first_child = first_child,
               .next_sibling = next_sibling},
              sampled_ids, {ids, accepted, path}, to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(chain_speculative_sampling, translated(chain));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(verify_tree, translated(tree));

}  // namespace quire::python
