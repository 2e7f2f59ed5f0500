// Softmax with temperature and token sampling. Exact: sets are what their definitions say, ties are
// broken by the lowest index. One random number a row comes from Philox4x32-10 (Salmon et al. 2011)
// with key = seed of the row and counter = (offset of the row, stream). The stream is the output
// row when one seed serves all rows, so that they differ, and 0 when every row has its own, so that
// a request draws the same token wherever it stands in the batch. The same arguments give the same
// token on every device: sums are integers (docs/ops/sampling.md).
#pragma once

#include <cstdint>
#include <optional>

#include "quire/tensor.h"

namespace quire {

// A value for all rows, or one a row.
template <class T>
struct PerRow {
  T value{};
  std::optional<TensorView> tensor;  // [rows], on the device of the data; i32 for int, f32 for
                                     // float, i64 for 64-bit
  PerRow() = default;
  PerRow(T v) : value(v) {}
  PerRow(const TensorView& t) : tensor(t) {}
};

// probs = softmax(logits / temperature) over the last dimension. logits, probs [n, vocab]; logits
// f32/f16/bf16, probs f32; vocab up to 2^23. temperature 0 puts all mass on the largest logit
// (lowest index of ties). A row of -inf gives zeros; a row with a NaN, or with +inf at a
// temperature above 0, gives NaN, and so does a negative or non-finite temperature in a tensor: the
// samplers flag both. logits in f32 may be probs itself.
void softmax(const TensorView& logits, const TensorView& probs,
             const PerRow<float>& temperature = 1.f, Stream stream = {});

// ids[i] = index of the largest element of row i, the lowest of equals. logits [n, vocab]
// f32/f16/bf16, ids i32 [n]. A row with a NaN gives -1.
void argmax(const TensorView& logits, const TensorView& ids, Stream stream = {});

// out[i, j] = log(softmax(logits[i] / temperature)[ids[i, j]]), in natural logarithms: of tokens
// that were drawn, of a prompt's, of the most probable ones. The distribution is the whole one;
// that of a filter is SamplingOptions::log_probs. logits [n, vocab] f32/f16/bf16, vocab up to 2^23,
// any row stride; ids i32 and out f32, both [n] or both [n, tokens], any row strides, last
// dimension contiguous where there are two. At temperature 0 the largest logit (the lowest index of
// equals) gives 0, others -inf. NaN for an id outside the vocabulary, for a row with a NaN, with
// +inf (but at temperature 0) or of -inf only, and for a negative or non-finite temperature in a
// tensor. Throws Error for shapes, dtypes, devices, and such a temperature given as a number.
void token_log_probs(const TensorView& logits, const TensorView& ids, const TensorView& out,
                     const PerRow<float>& temperature = 1.f, Stream stream = {});

struct SamplingOptions {
  PerRow<std::int64_t> seed{0};
  PerRow<std::int64_t> offset{0};
  // i32 [n]: output row i samples from row indices[i] of probs. All per-row values (k, p, seed …)
  // belong to the OUTPUT row i. Without it output row i is probs row i.
  std::optional<TensorView> indices;
  // boolean or u8 [n]: false for a row that has a NaN, a negative or no positive probability; such
  // a row's id is -1.
  std::optional<TensorView> valid;
  // f32 [n]: the logarithm of the drawn token's probability among the tokens that the filter keeps;
  // NaN where the id is -1.
  std::optional<TensorView> log_probs;
};

enum class FilterOrder : std::uint8_t {
  top_k_first,  // top-p within the renormalised top-k set
  joint,        // both against the whole distribution
};

// The tokens that may be drawn: those that every part keeps. What a part is not given keeps all.
struct TokenFilter {
  PerRow<int> top_k{0};      // the k most probable tokens; all for k <= 0 and k >= vocab
  PerRow<float> top_p{1.f};  // the smallest set of most probable tokens whose mass is >= p
  PerRow<float> min_p{0.f};  // tokens with probability >= min_p * the largest probability
  FilterOrder order = FilterOrder::top_k_first;
};

// All take probs f32 [rows, vocab] (last dimension contiguous; need not sum to one; vocab up to
// 2^23) and write ids i32 [n]. A single top_p or min_p is from 0 to 1; values of a tensor beyond
// that count as 0 or 1.

// From the whole distribution.
void sample(const TensorView& probs, const TensorView& ids, const SamplingOptions& options = {},
            Stream stream = {});
// From the k most probable tokens. k <= 0 or >= vocab: all.
void top_k_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                  const SamplingOptions& options = {}, Stream stream = {});
// From the smallest set of most probable tokens whose mass is >= p of the total (nucleus,
// Holtzman et al. 2020). Always at least one token.
void top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& top_p,
                  const SamplingOptions& options = {}, Stream stream = {});
// From the tokens with probability >= min_p * the largest probability.
void min_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<float>& min_p,
                  const SamplingOptions& options = {}, Stream stream = {});

void top_k_top_p_sample(const TensorView& probs, const TensorView& ids, const PerRow<int>& top_k,
                        const PerRow<float>& top_p, FilterOrder order = FilterOrder::top_k_first,
                        const SamplingOptions& options = {}, Stream stream = {});
// From the tokens that top-k, top-p and min-p keep together.
void filtered_sample(const TensorView& probs, const TensorView& ids, const TokenFilter& filter,
                     const SamplingOptions& options = {}, Stream stream = {});

// The same from softmax(logits / temperature), which is not written anywhere: logits [rows, vocab]
// f32/f16/bf16. Probabilities are exp((logit - largest) / temperature) as f32, the same bits on
// every device; temperature 0 draws the largest logit. options.valid is false for a row with a NaN,
// with +inf (but at temperature 0) or of -inf only.
void sample_from_logits(const TensorView& logits, const TensorView& ids,
                        const TokenFilter& filter = {}, const PerRow<float>& temperature = 1.f,
                        const SamplingOptions& options = {}, Stream stream = {});

// out = probs where the filter keeps them, divided by their sum, and 0 elsewhere. probs and out
// [n, vocab] f32/f16/bf16 of one dtype; out may be probs. A row that is no distribution (NaN,
// negative or infinite) gives NaN, a row of zeros gives zeros.
void renorm_probs(const TensorView& probs, const TensorView& out, const TokenFilter& filter,
                  Stream stream = {});

// out = the k largest logits, -inf elsewhere; ties are broken by the lowest index, k <= 0 and k >=
// vocab keep all. logits and out [n, vocab] f32/f16/bf16 of one dtype; out may be logits. NaN
// counts as the largest number.
void top_k_mask_logits(const TensorView& logits, const TensorView& out, const PerRow<int>& top_k,
                       Stream stream = {});

}  // namespace quire
