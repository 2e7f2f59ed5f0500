// Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864).
#pragma once

#include <optional>

#include "quire/append.h"
#include "quire/tensor.h"

namespace quire {

// Llama 3.1's frequency scaling: wavelengths above old_context_len / low_freq_factor are divided by
// the rope_scale, those below old_context_len / high_freq_factor kept, those between interpolated.
struct Llama31Rope {
  float low_freq_factor = 1.f;
  float high_freq_factor = 4.f;
  float old_context_len = 8192.f;
};

// YaRN (Peng et al. 2023, https://arxiv.org/abs/2309.00071): pairs that turn more than beta_fast
// times within original_context_len keep their frequency, those that turn less than beta_slow times
// are divided by rope_scale, those between are interpolated by their index; q and k are multiplied
// by attention_factor.
struct YarnRope {
  float original_context_len = 4096.f;
  float beta_fast = 32.f;
  float beta_slow = 1.f;
  float attention_factor = 0.f;  // 0: 0.1 ln(rope_scale) + 1
};

struct RopeOptions {
  int rotary_dim = 0;       // even, <= head_dim; 0: head_dim. Dims past it are copied
  bool interleave = false;  // true: pairs (2i, 2i + 1); false: halves (i, i + rotary_dim / 2)
  float rope_scale = 1.f;   // positions are divided by this, but for the scalings below
  float rope_theta = 1e4f;
  // At most one of these. ntk: instead of the positions, rope_theta grows, to rope_theta *
  // rope_scale^(rotary_dim / (rotary_dim - 2)).
  std::optional<Llama31Rope> llama31;
  std::optional<YarnRope> yarn;
  bool ntk = false;
  // [max_position, rotary_dim] f32/f16/bf16, last dimension contiguous: the cosines of a position,
  // then its sines, used as they are instead of all of the above. Positions outside it are an error
  // on the CPU; on CUDA such tokens do not turn.
  std::optional<TensorView> cos_sin_cache;
};

// q [nnz, num_qo_heads, head_dim], k [nnz, num_kv_heads, head_dim], f32/f16/bf16, any strides with
// a contiguous last dimension; pos_ids i32 or i64 [nnz]. q_out, k_out: same shapes; passing q and k
// themselves works in place.
void apply_rope_pos_ids(const TensorView& q, const TensorView& k, const TensorView& pos_ids,
                        const TensorView& q_out, const TensorView& k_out,
                        const RopeOptions& options = {}, Stream stream = {});

// The same for requests of neighbouring tokens: token i of request r, which is row indptr[r] + i,
// is at position offsets[r] + i. indptr [batch + 1], offsets [batch], both i32 or i64.
void apply_rope(const TensorView& q, const TensorView& k, const TensorView& indptr,
                const TensorView& offsets, const TensorView& q_out, const TensorView& k_out,
                const RopeOptions& options = {}, Stream stream = {});

// q and k in the part that turns and the one that does not: q_rope [nnz, num_qo_heads, rope_dim],
// q_nope [nnz, num_qo_heads, q_nope_dim], k_rope [nnz, num_kv_heads, rope_dim], k_nope [nnz,
// num_kv_heads, k_nope_dim]; those of k without the heads dimension where there is one head (MLA).
struct RopeParts {
  TensorView q_rope, k_rope;
  std::optional<TensorView> q_nope, k_nope;
};

// Turns q_rope and k_rope (options.rotary_dim of them) and converts all parts to fp8: value /
// scale, rounded to nearest even, saturating. out: the same parts, f8e4m3 or f8e5m2.
void rope_quantize_fp8(const RopeParts& in, const TensorView& pos_ids, const RopeParts& out,
                       const RopeOptions& options = {}, float q_scale = 1, float kv_scale = 1,
                       Stream stream = {});

// Turns q and k, and writes k and v to a paged cache instead of to tensors. Parts and pools:
// - v given: cache.k [.., rope_dim + nope_dim] gets k_rope and then k_nope of a head, cache.v gets
//   v [nnz, num_kv_heads, v_dim];
// - MLA, no v: k_nope goes to cache.k [num_pages, page_size, k_nope_dim], k_rope to cache.v
//   [num_pages, page_size, rope_dim]. (The scales are theirs in this order; layout is not used.)
// q_out: q_rope and q_nope of the result. It and the cache are each of the input's dtype or fp8,
// which is divided by q_scale (a number) and scales.
struct RopeAppend {
  RopeParts in;
  std::optional<TensorView> v;
  TensorView pos_ids;
  TensorView q_rope_out;
  std::optional<TensorView> q_nope_out;
  PagedKv cache;
};
void rope_append_paged_kv(const RopeAppend& tensors, const AppendRows& rows,
                          const RopeOptions& options = {}, float q_scale = 1,
                          const KvScales& scales = {}, Stream stream = {});

}  // namespace quire
