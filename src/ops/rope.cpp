#include "quire/rope.h"

#include <fmt/format.h>

#include "core/backend.h"
#include "core/check.h"
#include "core/rows.h"
#include "core/scale_arguments.h"
#include "cpu/rope.h"
#include "cuda/rope.h"
#include "ops/append_rows.h"
#include "ops/rope_options.h"

namespace quire {
namespace {

using check::Arg;
using kernels::RopeConfig;
using kernels::RopeParams;
using kernels::RopeSide;

// A call under construction: what is checked goes into params and config.
struct RopeCall {
  RopeParams params{};
  RopeConfig config;

  RopeSide& next_query() { return params.sides[num_queries++]; }
  RopeSide& next_key() { return params.sides[kernels::kRopeQuerySides + num_keys++]; }

  int num_queries = 0, num_keys = 0;
};

void check_input(const Arg& in) {
  check::rank(in, 3);
  check::dtype(in, {DType::f32, DType::f16, DType::bf16});
  check::last_dim_contiguous(in);
  check::memory(in);
}

void check_output(const Arg& out, const Arg& in) {
  check::same_shape(out, in);
  check::last_dim_contiguous(out);
  check::device(out, in);
  check::memory(out, true);
}

// The other inputs beside q (q_rope).
void check_beside(const Arg& in, const Arg& q) {
  check::dtype(in, {q.tensor.dtype});
  check::dim(in, 0, q.tensor.shape[0], "tokens of q");
  check::device(in, q);
}

void set_input(RopeSide& side, const Arg& in, int rotary_dim) {
  side.in = in.tensor.data;
  side.in_token_stride = rows::step(in.tensor, 0);
  side.in_head_stride = rows::step(in.tensor, 1);
  side.num_heads = rows::count(in, in.tensor.shape[1], "heads");
  side.head_dim = rows::count(in, in.tensor.shape[2], "elements a head");
  rows::count(in, in.tensor.shape[1] * in.tensor.shape[2], "elements a token");
  side.rotary_dim = rotary_dim;
  side.factor = 1;
}

void set_output(RopeSide& side, const TensorView& out, float scale) {
  side.out = out.data;
  side.out_token_stride = rows::step(out, 0);
  side.out_head_stride = rows::step(out, 1);
  side.factor = 1.f / scale;
}

void launch(const char* op, const RopeCall& call, Device device, Stream stream) {
  bool empty = true;
  for (const RopeSide& side : call.params.sides) empty &= side.num_heads * side.head_dim == 0;
  if (empty || call.params.nnz == 0) return;
  dispatch(
      op, device, [&] { cpu::rope(call.config, call.params); },
      [&] { cuda::rope(call.config, call.params, device.index, stream); });
}

// q and k to tensors of their dtype, by positions that `set` checks and fills in.
template <class SetPositions>
void rotate(const Arg& q, const Arg& k, const Arg& q_out, const Arg& k_out,
            const RopeOptions& options, Stream stream, SetPositions&& set) {
  RopeCall call;
  for (const auto& [in, out] : {std::pair{q, q_out}, std::pair{k, k_out}}) {
    check_input(in);
    check::dtype(out, {in.tensor.dtype});
    check_output(out, in);
    rows::in_place_or_apart(out, in);
  }
  check_beside(k, q);
  check::dim(k, 2, q.tensor.shape[2], "head_dim of q");
  set_angles(q, q.tensor.shape[2], options, call.params, call.config);
  set(call);
  const kernels::DType dtype = check::to_kernel(q.tensor.dtype);
  call.config.dtype = call.config.q_out_dtype = call.config.k_out_dtype = dtype;
  RopeSide& q_side = call.next_query();
  set_input(q_side, q, call.params.rotary_dim);
  set_output(q_side, q_out.tensor, 1);
  RopeSide& k_side = call.next_key();
  set_input(k_side, k, call.params.rotary_dim);
  set_output(k_side, k_out.tensor, 1);
  launch(q.op.data(), call, q.tensor.device, stream);
}

// The heads dimension of k's parts, where they have none.
TensorView with_heads(const TensorView& k) { return k.rank == 2 ? rows::with_dim(k, 1) : k; }

// The parts of q and k with all their dimensions; parts that are missing have no elements.
struct Parts {
  TensorView q_rope, k_rope, q_nope, k_nope;

  explicit Parts(const RopeParts& parts)
      : q_rope(parts.q_rope),
        k_rope(with_heads(parts.k_rope)),
        q_nope(parts.q_nope ? *parts.q_nope : none_like(q_rope)),
        k_nope(parts.k_nope ? with_heads(*parts.k_nope) : none_like(k_rope)) {}

  static TensorView none_like(const TensorView& part) {
    TensorView none = part;
    if (none.rank == 3) none.shape[2] = 0;
    return none;
  }
};

void check_parts(const char* op, const Parts& in) {
  const Arg q{op, "q_rope", in.q_rope}, q_nope{op, "q_nope", in.q_nope};
  const Arg k{op, "k_rope", in.k_rope}, k_nope{op, "k_nope", in.k_nope};
  for (const Arg& part : {q, k, q_nope, k_nope}) check_input(part);
  for (const Arg& part : {k, q_nope, k_nope}) check_beside(part, q);
  check::dim(k, 2, in.q_rope.shape[2], "rope_dim of q_rope");
  check::dim(q_nope, 1, in.q_rope.shape[1], "heads of q_rope");
  check::dim(k_nope, 1, in.k_rope.shape[1], "heads of k_rope");
}

void add_queries(const char* op, RopeCall& call, const Parts& in, const TensorView& rope_out,
                 const TensorView& nope_out, float scale) {
  RopeSide& rope = call.next_query();
  set_input(rope, {op, "q_rope", in.q_rope}, call.params.rotary_dim);
  set_output(rope, rope_out, scale);
  RopeSide& nope = call.next_query();
  set_input(nope, {op, "q_nope", in.q_nope}, 0);
  set_output(nope, nope_out, scale);
}

void check_fp8_output(const Arg& out, const Arg& in, DType dtype) {
  check::dtype(out, {DType::f8e4m3, DType::f8e5m2});
  check::dtype(out, {dtype});
  check_output(out, in);
}

// One pool of a cache, or a part of its last dimension, as the output of a side.
void set_pool(RopeSide& side, const TensorView& pool, KvLayout layout,
              const check::HeadScales& scales) {
  const int tokens = layout == KvLayout::nhd ? 1 : 2, heads = 3 - tokens;
  side.out = pool.data;
  side.out_page_stride = rows::step(pool, 0);
  side.out_token_stride = rows::step(pool, tokens);
  side.out_head_stride = rows::step(pool, heads);
  side.scales = scales.data;
  side.scale_head_stride = scales.head_stride;
  side.factor = 1.f / scales.value;
  side.paged = true;
}

// A pool whose heads have `dim` elements, for the heads of `in`.
void check_pool(const Arg& pool, const Arg& in, KvLayout layout, std::int64_t dim) {
  check::rank(pool, 4);
  check::dtype(pool, {in.tensor.dtype, DType::f8e4m3, DType::f8e5m2});
  check::dim(pool, layout == KvLayout::nhd ? 2 : 1, in.tensor.shape[1],
             fmt::format("heads of {}", in.name));
  check::dim(pool, 3, dim, fmt::format("head_dim of {}", in.name));
  check::last_dim_contiguous(pool);
  check::device(pool, in);
  check::memory(pool, true);
}

struct Cache {
  TensorView k, v;
  KvLayout layout;
  const char *k_name, *v_name;
};

void add_keys(const char* op, RopeCall& call, const Parts& in, const std::optional<TensorView>& v,
              const Cache& cache, const KvScales& scales) {
  const Arg k_rope{op, "k_rope", in.k_rope}, k_nope{op, "k_nope", in.k_nope};
  const std::int64_t rope_dim = in.k_rope.shape[2], nope_dim = in.k_nope.shape[2];
  const bool is_fp8 = cache.k.dtype != in.k_rope.dtype;
  const std::int64_t heads = in.k_rope.shape[1];
  const check::HeadScales k = check::head_scales(k_rope, "scales.k", scales.k, heads, is_fp8);
  const check::HeadScales v_scales =
      check::head_scales(k_rope, "scales.v", scales.v, heads, is_fp8);
  RopeSide& rope = call.next_key();
  set_input(rope, k_rope, call.params.rotary_dim);
  RopeSide& nope = call.next_key();
  set_input(nope, k_nope, 0);
  if (!v) {
    set_pool(rope, cache.v, cache.layout, v_scales);
    set_pool(nope, cache.k, cache.layout, k);
    return;
  }
  set_pool(rope, cache.k.slice(3, 0, rope_dim), cache.layout, k);
  set_pool(nope, cache.k.slice(3, rope_dim, rope_dim + nope_dim), cache.layout, k);
  RopeSide& values = call.next_key();
  set_input(values, {op, "v", *v}, 0);
  set_pool(values, cache.v, cache.layout, v_scales);
}

void check_cache(const char* op, const Parts& in, const std::optional<TensorView>& v,
                 const Cache& cache) {
  const Arg k_rope{op, "k_rope", in.k_rope}, k_nope{op, "k_nope", in.k_nope};
  const Arg pool_k{op, cache.k_name, cache.k}, pool_v{op, cache.v_name, cache.v};
  const std::int64_t rope_dim = in.k_rope.shape[2], nope_dim = in.k_nope.shape[2];
  if (v) {
    const Arg values{op, "v", *v};
    check_input(values);
    check_beside(values, k_rope);
    check::dim(values, 1, in.k_rope.shape[1], "heads of k_rope");
    check_pool(pool_k, k_rope, cache.layout, rope_dim + nope_dim);
    check_pool(pool_v, values, cache.layout, v->shape[2]);
  } else {
    check_pool(pool_k, k_nope, cache.layout, nope_dim);
    check_pool(pool_v, k_rope, cache.layout, rope_dim);
  }
  check::dtype(pool_v, {cache.k.dtype});
  check::dim(pool_v, 0, cache.k.shape[0], fmt::format("num_pages of {}", cache.k_name));
  const int tokens = cache.layout == KvLayout::nhd ? 1 : 2;
  check::dim(pool_v, tokens, cache.k.shape[tokens], fmt::format("page_size of {}", cache.k_name));
}

}  // namespace

void apply_rope_pos_ids(const TensorView& q, const TensorView& k, const TensorView& pos_ids,
                        const TensorView& q_out, const TensorView& k_out,
                        const RopeOptions& options, Stream stream) {
  constexpr const char* kOp = "apply_rope_pos_ids";
  const Arg q_arg{kOp, "q", q};
  rotate(q_arg, {kOp, "k", k}, {kOp, "q_out", q_out}, {kOp, "k_out", k_out}, options, stream,
         [&](RopeCall& call) {
           set_positions(q_arg, {kOp, "pos_ids", pos_ids}, call.params, call.config);
         });
}

void apply_rope(const TensorView& q, const TensorView& k, const TensorView& indptr,
                const TensorView& offsets, const TensorView& q_out, const TensorView& k_out,
                const RopeOptions& options, Stream stream) {
  constexpr const char* kOp = "apply_rope";
  const Arg q_arg{kOp, "q", q};
  rotate(q_arg, {kOp, "k", k}, {kOp, "q_out", q_out}, {kOp, "k_out", k_out}, options, stream,
         [&](RopeCall& call) {
           set_ragged_positions(q_arg, {kOp, "indptr", indptr}, {kOp, "offsets", offsets},
                                call.params, call.config);
         });
}

void rope_quantize_fp8(const RopeParts& in, const TensorView& pos_ids, const RopeParts& out,
                       const RopeOptions& options, float q_scale, float kv_scale, Stream stream) {
  constexpr const char* kOp = "rope_quantize_fp8";
  const Parts from(in), to(out);
  check_parts(kOp, from);
  const DType dtype = to.q_rope.dtype;
  check_fp8_output({kOp, "q_rope_out", to.q_rope}, {kOp, "q_rope", from.q_rope}, dtype);
  check_fp8_output({kOp, "k_rope_out", to.k_rope}, {kOp, "k_rope", from.k_rope}, dtype);
  check_fp8_output({kOp, "q_nope_out", to.q_nope}, {kOp, "q_nope", from.q_nope}, dtype);
  check_fp8_output({kOp, "k_nope_out", to.k_nope}, {kOp, "k_nope", from.k_nope}, dtype);
  check::finite_positive(kOp, "q_scale", q_scale);
  check::finite_positive(kOp, "kv_scale", kv_scale);

  RopeCall call;
  const Arg q{kOp, "q_rope", from.q_rope};
  set_angles(q, from.q_rope.shape[2], options, call.params, call.config);
  set_positions(q, {kOp, "pos_ids", pos_ids}, call.params, call.config);
  call.config.dtype = check::to_kernel(from.q_rope.dtype);
  call.config.q_out_dtype = call.config.k_out_dtype = check::to_kernel(dtype);
  add_queries(kOp, call, from, to.q_rope, to.q_nope, q_scale);
  RopeSide& rope = call.next_key();
  set_input(rope, {kOp, "k_rope", from.k_rope}, call.params.rotary_dim);
  set_output(rope, to.k_rope, kv_scale);
  RopeSide& nope = call.next_key();
  set_input(nope, {kOp, "k_nope", from.k_nope}, 0);
  set_output(nope, to.k_nope, kv_scale);
  launch(kOp, call, q.tensor.device, stream);
}

void rope_append_paged_kv(const RopeAppend& t, const AppendRows& rows, const RopeOptions& options,
                          float q_scale, const KvScales& scales, Stream stream) {
  constexpr const char* kOp = "rope_append_paged_kv";
  const Parts from(t.in);
  check_parts(kOp, from);
  const Arg q{kOp, "q_rope", from.q_rope}, q_nope{kOp, "q_nope", from.q_nope};
  const Arg rope_out{kOp, "q_rope_out", t.q_rope_out};
  const TensorView none = Parts::none_like(t.q_rope_out);
  const Arg nope_out{kOp, "q_nope_out", t.q_nope_out ? *t.q_nope_out : none};
  check::dtype(rope_out, {q.tensor.dtype, DType::f8e4m3, DType::f8e5m2});
  check_output(rope_out, q);
  check::dtype(nope_out, {rope_out.tensor.dtype});
  check_output(nope_out, q_nope);
  if (rope_out.tensor.dtype == q.tensor.dtype) {
    rows::in_place_or_apart(rope_out, q);
    rows::in_place_or_apart(nope_out, q_nope);
  }
  check::head_scales(q, "q_scale", q_scale, 1, rope_out.tensor.dtype != q.tensor.dtype);
  Cache cache{t.cache.k, t.cache.v, t.cache.layout, "cache.k", "cache.v"};
  if (!t.v) {
    check::dim(Arg{kOp, "k_rope", from.k_rope}, 1, 1, "one head, without v");
    for (const Arg& pool : {Arg{kOp, "cache.k", cache.k}, Arg{kOp, "cache.v", cache.v}}) {
      check::rank(pool, 3);
    }
    cache.k = rows::with_dim(cache.k, 2);
    cache.v = rows::with_dim(cache.v, 2);
    cache.layout = KvLayout::nhd;
  }
  check_cache(kOp, from, t.v, cache);

  RopeCall call;
  set_angles(q, from.q_rope.shape[2], options, call.params, call.config);
  set_positions(q, {kOp, "pos_ids", t.pos_ids}, call.params, call.config);
  call.config.dtype = check::to_kernel(q.tensor.dtype);
  call.config.q_out_dtype = check::to_kernel(rope_out.tensor.dtype);
  call.config.k_out_dtype = check::to_kernel(cache.k.dtype);
  add_queries(kOp, call, from, t.q_rope_out, nope_out.tensor, q_scale);
  add_keys(kOp, call, from, t.v, cache, scales);
  const std::int64_t page_size = cache.k.shape[cache.layout == KvLayout::nhd ? 1 : 2];
  call.params.to =
      check_append_rows(rows, q, {{kOp, "cache.k", cache.k}, cache.k.shape[0], page_size});
  call.params.any_paged = true;
  check_device_slots(kOp, call.params.to, q.tensor.device, stream);
  launch(kOp, call, q.tensor.device, stream);
}

}  // namespace quire
