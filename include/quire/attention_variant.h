// A user's own attention: a C++ snippet that transforms logits and hides tokens.
#pragma once

#include <string>
#include <vector>

#include "quire/tensor.h"

namespace quire {

// Compiled into the attention kernel by plan(); CUDA only. `source` defines
//
//   struct Variant {
//     static float logits(const Arguments& args, const Row& row, float score, int kv_token);
//     static bool visible(const Arguments& args, const Row& row, int kv_token);
//     static Row row(const Arguments& args, const QueryRow& row);
//   };
//
// logits() returns the logit that the softmax takes; `score` is q k^T * sm_scale, after soft cap
// and ALiBi. visible() hides tokens beside those that causal, window and custom mask hide. One of
// them is enough. row(), if there, is called once a row of q, and what it returns (of any type
// that is default constructible) is the Row of the others; else Row is QueryRow:
// {request, token, position, qo_len, kv_len, qo_head, kv_head}, where `position` is
// kv_len - qo_len + token.
//
// Arguments has the declared tensors as pointers to const (f32 float, i32 int, u8 u8, f16 and bf16
// by to_float(x)) and the declared scalars (f32 float, i32 int). Nothing checks the bounds of what
// the snippet reads. kv_token is always a token of the request, but logits() is also asked about
// hidden ones. Functions of kernels/tile/math.h (exp_f32, log_f32, tanh_f32, exp2_approx, max_f32,
// kNegInf, ...) can be called by their names.
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
