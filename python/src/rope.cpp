#include "quire/rope.h"

#include "append_rows.h"
#include "conversion.h"

namespace quire::python {

namespace {

using Tensor = TensorView;
using MaybeTensor = std::optional<TensorView>;

float number(double x) { return static_cast<float>(x); }

// Llama 3.1's or YaRN's numbers as kind "llama31" or "yarn"; "ntk" and "" have none.
RopeOptions to_options(int rotary_dim, bool interleave, double rope_scale, double rope_theta,
                       const ffi::String& kind, double a, double b, double c, double d,
                       const MaybeTensor& cos_sin_cache) {
  RopeOptions options{.rotary_dim = rotary_dim,
                      .interleave = interleave,
                      .rope_scale = number(rope_scale),
                      .rope_theta = number(rope_theta),
                      .ntk = kind == "ntk"};
  if (kind == "llama31") options.llama31 = Llama31Rope{number(a), number(b), number(c)};
  if (kind == "yarn") options.yarn = YarnRope{number(a), number(b), number(c), number(d)};
  options.cos_sin_cache = cos_sin_cache;
  return options;
}

void rope(Tensor q, Tensor k, MaybeTensor pos_ids, MaybeTensor indptr, MaybeTensor offsets,
          Tensor q_out, Tensor k_out, int rotary_dim, bool interleave, double rope_scale,
          double rope_theta, ffi::String kind, double a, double b, double c, double d,
          MaybeTensor cos_sin_cache, std::int64_t stream) {
  const RopeOptions options =
      to_options(rotary_dim, interleave, rope_scale, rope_theta, kind, a, b, c, d, cos_sin_cache);
  if (pos_ids) {
    apply_rope_pos_ids(q, k, *pos_ids, q_out, k_out, options, to_stream(stream));
  } else {
    apply_rope(q, k, indptr.value(), offsets.value(), q_out, k_out, options, to_stream(stream));
  }
}

void quantize(Tensor q_rope, Tensor k_rope, MaybeTensor q_nope, MaybeTensor k_nope, Tensor pos_ids,
              Tensor q_rope_out, Tensor k_rope_out, MaybeTensor q_nope_out, MaybeTensor k_nope_out,
              int rotary_dim, bool interleave, double rope_scale, double rope_theta,
              ffi::String kind, double a, double b, double c, double d, MaybeTensor cos_sin_cache,
              double q_scale, double kv_scale, std::int64_t stream) {
  rope_quantize_fp8(
      {q_rope, k_rope, q_nope, k_nope}, pos_ids, {q_rope_out, k_rope_out, q_nope_out, k_nope_out},
      to_options(rotary_dim, interleave, rope_scale, rope_theta, kind, a, b, c, d, cos_sin_cache),
      number(q_scale), number(kv_scale), to_stream(stream));
}

void append(Tensor q_rope, Tensor k_rope, MaybeTensor q_nope, MaybeTensor k_nope, MaybeTensor v,
            Tensor pos_ids, Tensor q_rope_out, MaybeTensor q_nope_out, Tensor k_cache,
            Tensor v_cache, bool hnd, MaybeTensor slot_mapping, MaybeTensor batch_indices,
            MaybeTensor positions, MaybeTensor kv_indptr, MaybeTensor kv_indices,
            MaybeTensor kv_last_page_len, int rotary_dim, bool interleave, double rope_scale,
            double rope_theta, ffi::String kind, double a, double b, double c, double d,
            MaybeTensor cos_sin_cache, double q_scale, MaybeTensor k_scale, double k_number,
            MaybeTensor v_scale, double v_number, std::int64_t stream) {
  rope_append_paged_kv(
      {.in = {q_rope, k_rope, q_nope, k_nope},
       .v = v,
       .pos_ids = pos_ids,
       .q_rope_out = q_rope_out,
       .q_nope_out = q_nope_out,
       .cache = {k_cache, v_cache, hnd ? KvLayout::hnd : KvLayout::nhd}},
      to_append_rows(slot_mapping, batch_indices, positions, kv_indptr, kv_indices,
                     kv_last_page_len),
      to_options(rotary_dim, interleave, rope_scale, rope_theta, kind, a, b, c, d, cos_sin_cache),
      number(q_scale),
      {to_fp8_scale(k_scale, k_number, false), to_fp8_scale(v_scale, v_number, false)},
      to_stream(stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(apply_rope, translated(rope));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rope_quantize_fp8, translated(quantize));
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rope_append_paged_kv, translated(append));

}  // namespace quire::python
