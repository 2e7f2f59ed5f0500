#include "quire/merge.h"

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/merge.h"
#include "cuda/merge.h"

namespace quire {
namespace {

using check::Arg;
using kernels::MergeStatesConfig;
using kernels::MergeStatesParams;

void check_values(const Arg& v, int rank, bool is_output) {
  check::rank(v, rank);
  check::dtype(v, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(v);
  check::memory(v, is_output);
}

// s has the shape of v without its last dimension.
void check_lse(const Arg& s, const Arg& v, bool is_output) {
  const int rank = v.tensor.rank - 1;
  check::rank(s, rank);
  check::dtype(s, {DType::f32});
  for (int i = 0; i < rank; ++i) {
    check::dim(s, i, v.tensor.shape[static_cast<std::size_t>(i)],
               "the same dimension of " + std::string(v.name));
  }
  check::device(s, v);
  check::contiguous(s);
  check::memory(s, is_output);
}

void check_like(const Arg& v, const Arg& like, bool is_output) {
  check_values(v, 3, is_output);
  check::device(v, like);
}

MergeStatesParams outputs(const Arg& v_out, const TensorView& s_out, LseBase base) {
  MergeStatesParams p{};
  p.v_out = v_out.tensor.data;
  p.s_out = static_cast<float*>(s_out.data);
  p.out_entry_stride = rows::step(v_out.tensor, 0);
  p.out_head_stride = rows::step(v_out.tensor, 1);
  p.rows = v_out.tensor.shape[0] * v_out.tensor.shape[1];
  p.heads = rows::count(v_out, v_out.tensor.shape[1], "heads");
  p.head_dim = rows::count(v_out, v_out.tensor.shape[2], "head_dim");
  p.base_e = base == LseBase::e ? 1 : 0;
  return p;
}

void set_first(MergeStatesParams& p, const TensorView& v, const TensorView& s) {
  p.v0 = v.data;
  p.s0 = static_cast<const float*>(s.data);
  p.v0_entry_stride = rows::step(v, 0);
  p.v0_head_stride = rows::step(v, 1);
  p.s0_entry_stride = p.heads;
}

void set_second(MergeStatesParams& p, const TensorView& v, const TensorView& s) {
  p.vs = v.data;
  p.ss = static_cast<const float*>(s.data);
  p.vs_entry_stride = rows::step(v, 0);
  p.vs_head_stride = rows::step(v, 1);
  p.ss_entry_stride = p.heads;
  p.num_states = 2;
}

void run(const char* op, const TensorView& first, const TensorView& others, const TensorView& v_out,
         const MergeStatesParams& params, Stream stream) {
  if (v_out.numel() == 0) return;
  const MergeStatesConfig config{.dtype = check::to_kernel(first.dtype),
                                 .others_dtype = check::to_kernel(others.dtype),
                                 .out_dtype = check::to_kernel(v_out.dtype)};
  dispatch(
      op, v_out.device, [&] { cpu::merge_states(config, params); },
      [&] { cuda::merge_states(config, params, v_out.device.index, stream); });
}

}  // namespace

void merge_state(const TensorView& v_a, const TensorView& s_a, const TensorView& v_b,
                 const TensorView& s_b, const TensorView& v_out, const TensorView& s_out,
                 LseBase base, Stream stream) {
  constexpr const char* kOp = "merge_state";
  const Arg va{kOp, "v_a", v_a}, vb{kOp, "v_b", v_b}, vo{kOp, "v_out", v_out};
  check_values(va, 3, false);
  check_lse({kOp, "s_a", s_a}, va, false);
  check_like(vb, va, false);
  check::same_shape(vb, va);
  check_lse({kOp, "s_b", s_b}, vb, false);
  check_like(vo, va, true);
  check::same_shape(vo, va);
  check_lse({kOp, "s_out", s_out}, vo, true);
  for (const Arg& in : {va, vb}) {
    if (in.tensor.data == v_out.data) check::dtype(vo, {in.tensor.dtype});
    rows::in_place_or_apart(vo, in);
  }
  MergeStatesParams params = outputs(vo, s_out, base);
  set_first(params, v_a, s_a);
  set_second(params, v_b, s_b);
  run(kOp, v_a, v_b, v_out, params, stream);
}

void merge_state_in_place(const TensorView& v, const TensorView& s, const TensorView& v_other,
                          const TensorView& s_other, const std::optional<TensorView>& mask,
                          LseBase base, Stream stream) {
  constexpr const char* kOp = "merge_state_in_place";
  const Arg mine{kOp, "v", v}, other{kOp, "v_other", v_other};
  check_values(mine, 3, true);
  check_lse({kOp, "s", s}, mine, true);
  check_like(other, mine, false);
  check::same_shape(other, mine);
  check_lse({kOp, "s_other", s_other}, other, false);
  MergeStatesParams params = outputs(mine, s, base);
  set_first(params, v, s);
  set_second(params, v_other, s_other);
  if (mask) {
    const Arg arg{kOp, "mask", *mask};
    check::rank(arg, 1);
    check::dim(arg, 0, v.shape[0], "the entries of v");
    check::dtype(arg, {DType::u8, DType::boolean});
    check::device(arg, mine);
    check::contiguous(arg);
    check::memory(arg);
    params.mask = static_cast<const kernels::u8*>(mask->data);
  }
  run(kOp, v, v_other, v, params, stream);
}

void merge_states(const TensorView& v, const TensorView& s, const TensorView& v_out,
                  const TensorView& s_out, LseBase base, Stream stream) {
  constexpr const char* kOp = "merge_states";
  const Arg in{kOp, "v", v}, out{kOp, "v_out", v_out};
  check_values(in, 4, false);
  check_lse({kOp, "s", s}, in, false);
  check_like(out, in, true);
  check::dim(out, 0, v.shape[0], "the entries of v");
  check::dim(out, 1, v.shape[2], "the heads of v");
  check::dim(out, 2, v.shape[3], "the head_dim of v");
  check_lse({kOp, "s_out", s_out}, out, true);
  MergeStatesParams params = outputs(out, s_out, base);
  params.num_states = rows::count(in, v.shape[1], "states");
  if (params.num_states > 0) {
    // State 0, then the others from state 1 on.
    const TensorView first = v.slice(1, 0, 1);
    params.v0 = first.data;
    params.s0 = static_cast<const float*>(s.data);
    params.v0_entry_stride = params.vs_entry_stride = rows::step(v, 0);
    params.v0_head_stride = params.vs_head_stride = rows::step(v, 2);
    params.s0_entry_stride = params.ss_entry_stride =
        std::int64_t{params.num_states} * params.heads;
    params.vs_state_stride = rows::step(v, 1);
    params.ss_state_stride = params.heads;
    params.vs = v.slice(1, params.num_states > 1 ? 1 : 0, params.num_states).data;
    params.ss = params.s0 + (params.num_states > 1 ? params.heads : 0);
  }
  run(kOp, v, v, v_out, params, stream);
}

}  // namespace quire
