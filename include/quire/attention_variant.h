// A user's own attention: a C++ snippet that transforms logits and hides tokens.
#pragma once

#include <string>
#include <vector>

#include "quire/tensor.h"

namespace quire {

// Compiled into the attention kernel by plan(); CUDA only. `source` defines
//
//   struct Variant {
//     static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token);
//     static bool visible(const Arguments& args, const QueryRow& row, int kv_token);
//   };
//
// One of the two is enough. logits() returns the logit that the softmax takes; `score` is
// q k^T * sm_scale, after soft cap and ALiBi. visible() hides tokens beside those that causal,
// window and custom mask hide. QueryRow is {request, token, position, qo_len, kv_len, qo_head,
// kv_head}: `token` counts the request's rows of q, `position` is kv_len - qo_len + token.
// What is the same for a whole row can be computed once: with
//
//     static AnyType row(const Arguments& args, const QueryRow& row);
//
// in it, the other two get `const AnyType& row` (default constructible) instead.
//
// Arguments has the declared tensors as pointers to const (float, int, u8; f16 and bf16 are read by
// to_float(x)) and the declared scalars (float, int). Nothing checks the bounds of what the snippet
// reads. kv_token is always a token of the request, but logits() is also asked about hidden ones.
// The functions of kernels/tile/math.h (exp_f32, log_f32, tanh_f32, exp2_approx, max_f32, kNegInf,
// ...) can be called by their names; they are what also works where there is no GPU.
struct AttentionVariant {
  struct Argument {
    std::string name;  // a C++ identifier
    DType dtype = DType::f32;
  };

  std::string name;  // a C++ identifier; the snippet is "variants/<name>.h" in compiler messages
  std::string source;
  std::vector<Argument> tensors;  // at most 8: f32, f16, bf16, i32, u8
  std::vector<Argument> scalars;  // at most 8: f32, i32
  // false: there is no softmax: what logits() returns is the weight of the token's v, hidden
  // tokens weigh 0, nothing is normalised. Such runs have no lse and no sinks.
  bool softmax = true;
};

}  // namespace quire
