#include "quire/merge.h"

#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;

LseBase to_base(bool base_2) { return base_2 ? LseBase::two : LseBase::e; }

void two_states(Tensor v_a, Tensor s_a, Tensor v_b, Tensor s_b, Tensor v_out, Tensor s_out,
                bool base_2, std::int64_t stream) {
  merge_state(v_a, s_a, v_b, s_b, v_out, s_out, to_base(base_2), to_stream(stream));
}

void in_place(Tensor v, Tensor s, Tensor v_other, Tensor s_other, std::optional<Tensor> mask,
              bool base_2, std::int64_t stream) {
  merge_state_in_place(v, s, v_other, s_other, mask, to_base(base_2), to_stream(stream));
}

void many_states(Tensor v, Tensor s, Tensor v_out, Tensor s_out, bool base_2, std::int64_t stream) {
  merge_states(v, s, v_out, s_out, to_base(base_2), to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(merge_state, translated(two_states));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(merge_state_in_place, translated(in_place));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(merge_states, translated(many_states));

}  // namespace quire::python
