// RoPE by request, from a table of cosines and sines, to fp8, and to pages.
#include <gtest/gtest.h>

#include <cmath>

#include "quire/rope.h"
#include "support/expect_error.h"
#include "support/quantized.h"
#include "support/reference_rope.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::reference_rope;
using test::TestTensor;
using Values = std::vector<double>;

constexpr std::int64_t kTokens = 5, kPositions = 64;
const Values kPosIds = {3, 0, 63, 17, 40};

double roundoff(DType dtype) {
  return dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
}

void expect_close(const Values& out, const Values& ref, double relative) {
  ASSERT_EQ(out.size(), ref.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    // A pair shares its length, which is below 6 here.
    ASSERT_LE(std::abs(out[i] - ref[i]), 6 * relative + 2e-5) << "element " << i;
  }
}

// [max_position, rotary_dim]: cosines, then sines.
TestTensor make_cache(int rotary_dim, DType dtype) {
  const Values frequencies = test::reference_frequencies(rotary_dim, {});
  Values values;
  for (std::int64_t position = 0; position < kPositions; ++position) {
    for (int i = 0; i < rotary_dim; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i % (rotary_dim / 2)];
      values.push_back(i < rotary_dim / 2 ? std::cos(angle) : std::sin(angle));
    }
  }
  return TestTensor::from(values, {kPositions, rotary_dim}, dtype);
}

TEST(RopeForms, Requests) {
  for (const DType index : {DType::i32, DType::i64}) {
    const TestTensor q = TestTensor::random({7, 2, 16}, DType::bf16, 1);
    const TestTensor k = TestTensor::random({7, 1, 16}, DType::bf16, 2);
    const TestTensor indptr = TestTensor::from({0, 3, 3, 7}, {4}, index);
    const TestTensor offsets = TestTensor::from({10, 5, 100}, {3}, index);
    const TestTensor q_out = TestTensor::poisoned({7, 2, 16}, DType::bf16);
    const TestTensor k_out = TestTensor::poisoned({7, 1, 16}, DType::bf16);
    apply_rope(q, k, indptr, offsets, q_out, k_out);
    const Values positions = {10, 11, 12, 100, 101, 102, 103};
    const double relative = roundoff(DType::bf16);
    expect_close(q_out.values(), reference_rope(q.values(), {7, 2, 16}, positions, {}), relative);
    expect_close(k_out.values(), reference_rope(k.values(), {7, 1, 16}, positions, {}), relative);
    EXPECT_TRUE(q_out.guards_intact() && k_out.guards_intact());
  }
}

TEST(RopeForms, CosSinCache) {
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const DType cache_dtype : {DType::f32, DType::bf16}) {
      for (const bool interleave : {false, true}) {
        const TestTensor q = TestTensor::random({kTokens, 2, 20}, dtype, 1);
        const TestTensor k = TestTensor::random({kTokens, 1, 20}, dtype, 2);
        const TestTensor pos_ids = TestTensor::from(kPosIds, {kTokens}, DType::i64);
        const TestTensor cache = make_cache(12, cache_dtype);
        const Values q_ref = reference_rope(q.values(), {kTokens, 2, 20}, kPosIds,
                                            {.rotary_dim = 12, .interleave = interleave});
        RopeOptions options{.interleave = interleave};
        options.cos_sin_cache = cache.view();
        apply_rope_pos_ids(q, k, pos_ids, q, k, options);
        const double cache_error = cache_dtype == DType::bf16 ? 0x1p-8 : 0x1p-24;
        expect_close(q.values(), q_ref, roundoff(dtype) + cache_error);
      }
    }
  }
}

// The parts of q and k that the other tests turn and quantize.
struct Parts {
  explicit Parts(DType dtype, std::int64_t kv_heads = 2, std::int64_t nope_dim = 8)
      : q_rope(TestTensor::random({kTokens, 4, 16}, dtype, 1)),
        q_nope(TestTensor::random({kTokens, 4, nope_dim}, dtype, 2)),
        k_rope(TestTensor::random({kTokens, kv_heads, 16}, dtype, 3)),
        k_nope(TestTensor::random({kTokens, kv_heads, nope_dim}, dtype, 4)),
        v(TestTensor::random({kTokens, kv_heads, 24}, dtype, 5)),
        pos_ids(TestTensor::from(kPosIds, {kTokens}, DType::i32)),
        cache(make_cache(16, DType::f32)) {
    options.cos_sin_cache = cache.view();
  }

  RopeParts parts() const { return {q_rope, k_rope, q_nope.view(), k_nope.view()}; }
  // MLA: k without the heads dimension.
  static TensorView flat(const TestTensor& k) {
    TensorView view = k.view();
    view.rank = 2;
    view.shape[1] = view.shape[2];
    view.strides[1] = 1;
    return view;
  }
  Values turned(const TestTensor& x) const {
    return reference_rope(x.values(), {kTokens, x.view().shape[1], 16}, kPosIds, {});
  }

  TestTensor q_rope, q_nope, k_rope, k_nope, v, pos_ids, cache;
  RopeOptions options;
};

// An element of a turned pair may be small beside the error of its partner's product.
void expect_fp8(const Values& out, const Values& values, DType dtype, double scale) {
  test::expect_quantized(out, values, dtype, 1e-6, [&](std::size_t) { return scale; }, 5e-6);
}

TEST(RopeForms, QuantizesToFp8) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const DType out_dtype : {DType::f8e4m3, DType::f8e5m2}) {
      const Parts in(dtype);
      const auto out_like = [&](const TestTensor& x) {
        const TensorView& v = x.view();
        return TestTensor::poisoned({v.shape[0], v.shape[1], v.shape[2]}, out_dtype);
      };
      const TestTensor q_rope = out_like(in.q_rope), q_nope = out_like(in.q_nope);
      const TestTensor k_rope = out_like(in.k_rope), k_nope = out_like(in.k_nope);
      rope_quantize_fp8(in.parts(), in.pos_ids, {q_rope, k_rope, q_nope.view(), k_nope.view()},
                        in.options, 0.25f, 0.5f);
      expect_fp8(q_rope.values(), in.turned(in.q_rope), out_dtype, 0.25);
      expect_fp8(q_nope.values(), in.q_nope.values(), out_dtype, 0.25);
      expect_fp8(k_rope.values(), in.turned(in.k_rope), out_dtype, 0.5);
      expect_fp8(k_nope.values(), in.k_nope.values(), out_dtype, 0.5);
      EXPECT_TRUE(q_rope.guards_intact() && k_nope.guards_intact());
    }
  }
}

TEST(RopeForms, QuantizesMlaAndNoNope) {
  const Parts in(DType::bf16, 1);
  const TestTensor q_rope = TestTensor::poisoned({kTokens, 4, 16}, DType::f8e4m3);
  const TestTensor k_rope = TestTensor::poisoned({kTokens, 16}, DType::f8e4m3);
  const TestTensor k_nope = TestTensor::poisoned({kTokens, 8}, DType::f8e4m3);
  rope_quantize_fp8({in.q_rope, Parts::flat(in.k_rope), {}, Parts::flat(in.k_nope)}, in.pos_ids,
                    {q_rope, k_rope, {}, k_nope.view()}, in.options);
  expect_fp8(q_rope.values(), in.turned(in.q_rope), DType::f8e4m3, 1);
  expect_fp8(k_rope.values(), in.turned(in.k_rope), DType::f8e4m3, 1);
  expect_fp8(k_nope.values(), in.k_nope.values(), DType::f8e4m3, 1);
}

constexpr std::int64_t kPages = 4, kPageSize = 3;
const Values kSlots = {7, -1, 0, 11, 4};

// Rows `token` of [kTokens, heads, dim], per head, against the slots of a pool [pages, tokens or
// heads, …, width] from column `column` on.
template <class Expect>
void for_slots(const Values& pool, std::int64_t heads, std::int64_t width, std::int64_t column,
               std::int64_t dim, bool hnd, const Values& rows, Expect&& expect) {
  for (std::int64_t token = 0; token < kTokens; ++token) {
    const auto slot = static_cast<std::int64_t>(kSlots[static_cast<std::size_t>(token)]);
    if (slot < 0) continue;
    for (std::int64_t head = 0; head < heads; ++head) {
      const std::int64_t row =
          hnd ? (slot / kPageSize * heads + head) * kPageSize + slot % kPageSize
              : slot * heads + head;
      const auto at = pool.begin() + row * width + column;
      const auto from = rows.begin() + (token * heads + head) * dim;
      expect(Values(at, at + dim), Values(from, from + dim), head);
    }
  }
}

TEST(RopeForms, AppendsToPages) {
  for (const DType cache_dtype : {DType::bf16, DType::f8e4m3}) {
    for (const DType q_dtype : {DType::bf16, DType::f8e4m3}) {
      for (const bool hnd : {false, true}) {
        const Parts in(DType::bf16);
        const bool fp8 = cache_dtype != DType::bf16;
        const test::Shape pool_shape =
            hnd ? test::Shape{kPages, 2, kPageSize, 24} : test::Shape{kPages, kPageSize, 2, 24};
        const TestTensor k_pool = TestTensor::poisoned(pool_shape, cache_dtype);
        const TestTensor v_pool = TestTensor::poisoned(pool_shape, cache_dtype);
        const TestTensor q_rope = TestTensor::poisoned({kTokens, 4, 16}, q_dtype);
        const TestTensor q_nope = TestTensor::poisoned({kTokens, 4, 8}, q_dtype);
        const TestTensor slots = TestTensor::from(kSlots, {kTokens}, DType::i64);
        const Values k_scale = fp8 ? Values{0.5, 2} : Values{1, 1};
        const TestTensor k_scales = TestTensor::from(k_scale, {2}, DType::f32);
        const KvScales scales = fp8 ? KvScales{k_scales.view(), 0.25f} : KvScales{};
        const float q_scale = q_dtype == DType::bf16 ? 1.f : 0.5f;
        rope_append_paged_kv({in.parts(),
                              in.v.view(),
                              in.pos_ids,
                              q_rope,
                              q_nope.view(),
                              {k_pool, v_pool, hnd ? KvLayout::hnd : KvLayout::nhd}},
                             AppendRows(slots), in.options, q_scale, scales);
        const auto expect = [&](const Values& got, const Values& want, DType dtype, double scale) {
          if (dtype != DType::bf16) return expect_fp8(got, want, dtype, scale);
          expect_close(got, want, roundoff(DType::bf16));
        };
        expect(q_rope.values(), in.turned(in.q_rope), q_dtype, q_scale);
        expect(q_nope.values(), in.q_nope.values(), q_dtype, q_scale);
        const auto expect_k = [&](const Values& got, const Values& want, std::int64_t head) {
          expect(got, want, cache_dtype, k_scale[static_cast<std::size_t>(head)]);
        };
        const Values k = k_pool.values(), v = v_pool.values();
        for_slots(k, 2, 24, 0, 16, hnd, in.turned(in.k_rope), expect_k);
        for_slots(k, 2, 24, 16, 8, hnd, in.k_nope.values(), expect_k);
        for_slots(v, 2, 24, 0, 24, hnd, in.v.values(),
                  [&](const Values& got, const Values& want, std::int64_t) {
                    expect(got, want, cache_dtype, fp8 ? 0.25 : 1);
                  });
        std::int64_t poisoned = 0;
        for (const double x : k) poisoned += std::isnan(x);
        EXPECT_EQ(poisoned, (kPages * kPageSize - 4) * 2 * 24);
        EXPECT_TRUE(k_pool.guards_intact() && v_pool.guards_intact());
      }
    }
  }
}

TEST(RopeForms, AppendsMlaToPages) {
  const Parts in(DType::bf16, 1, 32);
  const TestTensor ckv = TestTensor::poisoned({kPages, kPageSize, 32}, DType::f8e4m3);
  const TestTensor kpe = TestTensor::poisoned({kPages, kPageSize, 16}, DType::f8e4m3);
  const TestTensor q_rope = TestTensor::poisoned({kTokens, 4, 16}, DType::f8e4m3);
  const TestTensor q_nope = TestTensor::poisoned({kTokens, 4, 32}, DType::f8e4m3);
  const TestTensor slots = TestTensor::from(kSlots, {kTokens}, DType::i32);
  rope_append_paged_kv(
      {{in.q_rope, Parts::flat(in.k_rope), in.q_nope.view(), Parts::flat(in.k_nope)},
       {},
       in.pos_ids,
       q_rope,
       q_nope.view(),
       {ckv, kpe}},
      AppendRows(slots), in.options, 1, {.k = 0.5f, .v = 2.f});
  for_slots(ckv.values(), 1, 32, 0, 32, false, in.k_nope.values(),
            [](const Values& got, const Values& want, std::int64_t) {
              expect_fp8(got, want, DType::f8e4m3, 0.5);
            });
  for_slots(kpe.values(), 1, 16, 0, 16, false, in.turned(in.k_rope),
            [](const Values& got, const Values& want, std::int64_t) {
              expect_fp8(got, want, DType::f8e4m3, 2);
            });
  expect_fp8(q_rope.values(), in.turned(in.q_rope), DType::f8e4m3, 1);
}

TEST(RopeForms, PositionsOutsideTheCache) {
  const TestTensor q = TestTensor::random({3, 1, 16}, DType::f32, 1);
  const TestTensor k = TestTensor::poisoned({3, 0, 16}, DType::f32);
  const TestTensor out = TestTensor::poisoned({3, 1, 16}, DType::f32);
  const TestTensor pos_ids = TestTensor::ints({64, -1, 2147483647});
  const TestTensor cache = make_cache(16, DType::f32);
  RopeOptions options;
  options.cos_sin_cache = cache.view();
  const auto apply = [&] { apply_rope_pos_ids(q, k, pos_ids, out, k, options); };
  if (test::test_device().is_cpu()) {
    test::expect_errors({{apply, ErrorCode::invalid_argument,
                          "apply_rope_pos_ids: pos_ids: got position 64 of row 0, expected 0 to "
                          "63, a row of cos_sin_cache"}});
  } else {
    apply();
    EXPECT_EQ(out.values(), q.values());
  }
}

TEST(RopeForms, GarbageRequestsStayInside) {
  if (test::test_device().is_cpu()) return;  // there it is an error: see below
  const TestTensor q = TestTensor::random({3, 1, 16}, DType::f32, 1);
  const TestTensor out = TestTensor::poisoned({3, 1, 16}, DType::f32);
  const TestTensor garbage = TestTensor::ints({-7, 2000000000, -2000000000, 1, 5, -3});
  apply_rope(q, q, garbage.view().slice(0, 0, 4), garbage.view().slice(0, 3, 6), out, out);
  EXPECT_TRUE(out.guards_intact());
}

TEST(RopeForms, BadInput) {
  const Parts in(DType::bf16);
  const TestTensor q_out = TestTensor::poisoned({kTokens, 4, 16}, DType::f8e4m3);
  const TestTensor k_out = TestTensor::poisoned({kTokens, 2, 16}, DType::f8e4m3);
  const TestTensor k_other = TestTensor::poisoned({kTokens, 2, 16}, DType::f8e5m2);
  const TestTensor nope_out = TestTensor::poisoned({kTokens, 4, 8}, DType::f8e4m3);
  const TestTensor pool = TestTensor::poisoned({kPages, kPageSize, 2, 24}, DType::bf16);
  const TestTensor slots = TestTensor::from(kSlots, {kTokens}, DType::i64);
  const RopeParts turned{in.q_rope, in.k_rope};
  const std::vector<std::uint8_t> clean = q_out.raw(), clean_pool = pool.raw();
  const auto with = [&](const RopeOptions& options) {
    return [&, options] {
      apply_rope_pos_ids(in.q_rope, in.k_rope, in.pos_ids, in.q_rope, in.k_rope, options);
    };
  };
  RopeOptions both = in.options;
  both.rope_scale = 2;
  RopeOptions other_dim = in.options;
  other_dim.rotary_dim = 8;
  using enum ErrorCode;
  const std::string op = "apply_rope_pos_ids: ", quantize = "rope_quantize_fp8: ";
  test::expect_errors({
      {with({.llama31 = Llama31Rope{}, .ntk = true}), invalid_argument,
       op + "options: got 2 of llama31, yarn and ntk, expected at most one"},
      {with({.yarn = YarnRope{.beta_fast = 0.5f}}), invalid_argument,
       op + "beta_fast: got 0.5, expected beta_slow (1) or more"},
      {with({.yarn = YarnRope{.attention_factor = -1}}), invalid_argument,
       op + "attention_factor: got -1, expected a finite number, 0 or above"},
      {with(both), invalid_argument,
       op + "options: got a scaling of frequencies beside cos_sin_cache, expected one of them"},
      {with(other_dim), invalid_argument,
       op + "rotary_dim: got 8, expected 0 or 16, as in cos_sin_cache"},
      {[&] { rope_quantize_fp8(turned, in.pos_ids, {q_out, k_other}); }, wrong_type,
       quantize + "k_rope_out: got f8e5m2, expected f8e4m3"},
      {[&] { rope_quantize_fp8(turned, in.pos_ids, {in.q_rope, k_out}); }, wrong_type,
       quantize + "q_rope_out: got bf16, expected f8e4m3 or f8e5m2"},
      {[&] { rope_quantize_fp8(turned, in.pos_ids, {q_out, k_out, nope_out.view()}); },
       invalid_argument,
       quantize + "q_nope_out: got shape [5, 4, 8], expected [5, 4, 0], the shape of q_nope"},
      {[&] { rope_quantize_fp8(turned, in.pos_ids, {q_out, k_out}, {}, 0); }, invalid_argument,
       quantize + "q_scale: got 0, expected a finite number above 0"},
      {[&] {
         rope_append_paged_kv({turned, {}, in.pos_ids, q_out, {}, {pool, pool}}, AppendRows(slots));
       },
       invalid_argument,
       "rope_append_paged_kv: k_rope: got 2 in dimension 1 (shape [5, 2, 16]), expected 1 (one "
       "head, without v)"},
      {[&] {
         rope_append_paged_kv({turned, in.v.view(), in.pos_ids, q_out, {}, {pool, pool}},
                              AppendRows(slots));
       },
       invalid_argument,
       "rope_append_paged_kv: cache.k: got 24 in dimension 3 (shape [4, 3, 2, 24]), expected 16 "
       "(head_dim of k_rope)"},
      {[&] {
         rope_append_paged_kv(
             {in.parts(), in.v.view(), in.pos_ids, q_out, nope_out.view(), {pool, pool}},
             AppendRows(slots), {}, 1, {.k = 2.f});
       },
       invalid_argument,
       "rope_append_paged_kv: scales.k: got 2, expected 1 for a cache that is not converted to "
       "fp8"},
  });
  EXPECT_EQ(q_out.raw(), clean);
  EXPECT_EQ(pool.raw(), clean_pool);
  if (!test::test_device().is_cpu()) return;
  const TestTensor indptr = TestTensor::ints({0, 3}), offsets = TestTensor::ints({0});
  test::expect_errors(
      {{[&] { apply_rope(in.q_rope, in.k_rope, indptr, offsets, in.q_rope, in.k_rope); },
        invalid_argument,
        "apply_rope: indptr: got 3 at 1, expected numbers that rise from 0 to 5, "
        "the tokens of q"}});
}

}  // namespace
}  // namespace quire
