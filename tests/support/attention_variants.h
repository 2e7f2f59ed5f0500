// Custom attention variants for the tests: the snippet, its values, and the same thing in double.
#pragma once

#include <functional>
#include <vector>

#include "quire/attention_variant.h"
#include "support/reference_attention.h"

namespace quire::test {

struct VariantCase {
  AttentionVariant variant;
  std::vector<std::vector<double>> tensors;
  std::vector<double> scalars;
  ReferenceLogits logits = nullptr;
  ReferenceVisible visible = nullptr;
};

VariantCase alibi_variant(int num_qo_heads);    // a row() and one f32 tensor
VariantCase soft_cap_variant();                 // logits() and one scalar
VariantCase sigmoid_variant(int num_kv_heads);  // no softmax
VariantCase global_window_variant();            // visible() only, i32 scalars
// Every kind of argument and both functions: a bias per token (bf16 [kv]) and per row (f16 [q]),
// kinds of requests (i32 [batch]), tokens that a flag hides (u8 [kv]).
VariantCase every_argument_variant(int batch_size, int max_qo_len, int max_kv_len);

}  // namespace quire::test
