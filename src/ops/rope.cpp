#include "quire/rope.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "cpu/rope.h"
#include "cuda/rope.h"

namespace quire {
namespace {

using check::Arg;
using kernels::kMaxRotaryDim;
using kernels::RopeParams;
using kernels::RopeSide;

constexpr const char* kOp = "apply_rope_pos_ids";

void check_side(const Arg& in, const Arg& out) {
  check::rank(in, 3);
  check::dtype(in, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(in);
  check::memory(in);
  check::dtype(out, {in.tensor.dtype});
  check::same_shape(out, in);
  check::last_dim_contiguous(out);
  check::device(out, in);
  check::memory(out, true);
  rows::in_place_or_apart(out, in);
}

void check_k_and_positions(const Arg& q, const Arg& k, const Arg& pos_ids) {
  check::dtype(k, {q.tensor.dtype});
  check::dim(k, 0, q.tensor.shape[0], "tokens of q");
  check::dim(k, 2, q.tensor.shape[2], "head_dim of q");
  check::device(k, q);
  check::rank(pos_ids, 1);
  check::dtype(pos_ids, {DType::i32, DType::i64});
  check::dim(pos_ids, 0, q.tensor.shape[0], "tokens of q");
  check::device(pos_ids, q);
  check::memory(pos_ids);
}

int checked_rotary_dim(const RopeOptions& options, std::int64_t head_dim) {
  const std::int64_t rotary_dim = options.rotary_dim == 0 ? head_dim : options.rotary_dim;
  if (rotary_dim < 0 || rotary_dim > head_dim || rotary_dim % 2 != 0) {
    check::fail(kOp, "rotary_dim", std::to_string(rotary_dim),
                fmt::format("an even number, 0 to head_dim ({})", head_dim));
  }
  if (rotary_dim > kMaxRotaryDim) {
    check::fail(kOp, "rotary_dim", std::to_string(rotary_dim),
                fmt::format("at most {}", kMaxRotaryDim), ErrorCode::not_implemented);
  }
  return static_cast<int>(rotary_dim);
}

void check_options(const RopeOptions& options) {
  check::finite_positive(kOp, "rope_scale", options.rope_scale);
  check::finite_positive(kOp, "rope_theta", options.rope_theta);
  if (!options.llama31) return;
  check::finite_positive(kOp, "low_freq_factor", options.llama31->low_freq_factor);
  check::finite_positive(kOp, "high_freq_factor", options.llama31->high_freq_factor);
  check::finite_positive(kOp, "old_context_len", options.llama31->old_context_len);
  if (options.llama31->high_freq_factor <= options.llama31->low_freq_factor) {
    check::fail(kOp, "high_freq_factor", fmt::format("{}", options.llama31->high_freq_factor),
                fmt::format("more than low_freq_factor ({})", options.llama31->low_freq_factor));
  }
}

// Radians a position of pair i.
double frequency(const RopeOptions& options, int rotary_dim, int i) {
  const double unscaled = std::pow(static_cast<double>(options.rope_theta), -2.0 * i / rotary_dim);
  const double scaled = unscaled / static_cast<double>(options.rope_scale);
  if (!options.llama31) return scaled;
  const double low = options.llama31->low_freq_factor, high = options.llama31->high_freq_factor;
  // How many wavelengths the old context holds decides: few are scaled, many are kept.
  const double turns = options.llama31->old_context_len * unscaled / (2 * std::numbers::pi);
  if (turns < low) return scaled;
  if (turns > high) return unscaled;
  const double kept = (turns - low) / (high - low);
  return (1 - kept) * scaled + kept * unscaled;
}

RopeSide make_side(const Arg& in, const TensorView& out) {
  RopeSide side{};
  side.in = in.tensor.data;
  side.out = out.data;
  side.in_token_stride = rows::step(in.tensor, 0);
  side.in_head_stride = rows::step(in.tensor, 1);
  side.out_token_stride = rows::step(out, 0);
  side.out_head_stride = rows::step(out, 1);
  side.num_heads = rows::count(in, in.tensor.shape[1], "heads");
  rows::count(in, in.tensor.shape[1] * in.tensor.shape[2], "elements a token");
  return side;
}

}  // namespace

void apply_rope_pos_ids(const TensorView& q, const TensorView& k, const TensorView& pos_ids,
                        const TensorView& q_out, const TensorView& k_out,
                        const RopeOptions& options, Stream stream) {
  const Arg q_arg{kOp, "q", q}, k_arg{kOp, "k", k}, pos_ids_arg{kOp, "pos_ids", pos_ids};
  check_side(q_arg, {kOp, "q_out", q_out});
  check_side(k_arg, {kOp, "k_out", k_out});
  check_k_and_positions(q_arg, k_arg, pos_ids_arg);
  check_options(options);

  RopeParams p{};
  p.rotary_dim = checked_rotary_dim(options, q.shape[2]);
  p.q = make_side(q_arg, q_out);
  p.k = make_side(k_arg, k_out);
  p.pos_ids = pos_ids.data;
  p.pos_ids_stride = rows::step(pos_ids, 0);
  p.nnz = rows::count(q_arg, q.shape[0], "tokens");
  p.head_dim = static_cast<std::int32_t>(q.shape[2]);
  for (int i = 0; i < p.rotary_dim / 2; ++i) {
    p.inv_freq[i] = static_cast<float>(frequency(options, p.rotary_dim, i));
  }
  if (q.numel() == 0 && k.numel() == 0) return;

  const kernels::RopeConfig config{.dtype = check::to_kernel(q.dtype),
                                   .pos_dtype = check::to_kernel(pos_ids.dtype),
                                   .interleave = options.interleave};
  dispatch(
      kOp, q.device, [&] { cpu::rope(config, p); },
      [&] { cuda::rope(config, p, q.device.index, stream); });
}

}  // namespace quire
