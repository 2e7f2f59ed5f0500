#include "quire/concat.h"

#include "core/check.h"
#include "core/rows.h"
#include "ops/pages.h"

namespace quire {

using check::Arg;

void concat_mla_k(const TensorView& k_nope, const TensorView& k_rope, const TensorView& k,
                  Stream stream) {
  constexpr const char* kOp = "concat_mla_k";
  const Arg nope{kOp, "k_nope", k_nope}, out{kOp, "k", k};
  check::rank(nope, 3);
  check::last_dim_contiguous(nope);
  check::memory(nope);
  TensorView shared = k_rope.rank == 2 ? rows::with_dim(k_rope, 1) : k_rope;
  const Arg rope{kOp, "k_rope", shared};
  check::rank(rope, 3);
  check::dtype(rope, {k_nope.dtype});
  check::dim(rope, 0, k_nope.shape[0], "tokens of k_nope");
  check::dim(rope, 1, 1, "one head that all share");
  check::last_dim_contiguous(rope);
  check::device(rope, nope);
  check::memory(rope);
  check::rank(out, 3);
  check::dtype(out, {k_nope.dtype});
  check::dim(out, 0, k_nope.shape[0], "tokens of k_nope");
  check::dim(out, 1, k_nope.shape[1], "heads of k_nope");
  check::dim(out, 2, k_nope.shape[2] + shared.shape[2], "nope_dim + rope_dim");
  check::last_dim_contiguous(out);
  check::device(out, nope);
  check::memory(out, true);
  if (k.numel() == 0) return;

  const TensorView k_left = k.slice(2, 0, k_nope.shape[2]);
  const TensorView k_right = k.slice(2, k_nope.shape[2], k.shape[2]);
  shared.shape[1] = k.shape[1];
  shared.strides[1] = 0;
  copy_entries(nope, {kOp, "k", k_left}, stream);
  copy_entries(rope, {kOp, "k", k_right}, stream);
}

}  // namespace quire
