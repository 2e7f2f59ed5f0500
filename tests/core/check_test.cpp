#include "core/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace quire {
namespace {

alignas(256) unsigned char g_memory[4096];

TensorView view_of(std::vector<std::int64_t> shape, DType dtype = DType::f32,
                   Device device = kCpu) {
  return TensorView::contiguous(g_memory, dtype, shape, device);
}

TensorView with_strides(TensorView view, std::vector<std::int64_t> strides) {
  std::copy(strides.begin(), strides.end(), view.strides.begin());
  return view;
}

TensorView at_offset(TensorView view, int bytes) {
  view.data = static_cast<unsigned char*>(view.data) + bytes;
  return view;
}

TensorView without_data(TensorView view) {
  view.data = nullptr;
  return view;
}

struct Case {
  std::function<void()> call;
  std::string text;  // empty: passes
  ErrorCode code = ErrorCode::invalid_argument;
};

void run(const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    std::string got;
    ErrorCode code = each.code;
    try {
      each.call();
    } catch (const Error& error) {
      got = error.what();
      code = error.code();
    }
    EXPECT_EQ(got, each.text);
    EXPECT_EQ(code, each.code) << each.text;
  }
}

TEST(Check, ShapesAndTypes) {
  const TensorView t = view_of({2, 3, 4}), bf16 = view_of({2, 3, 4}, DType::bf16);
  const TensorView other = view_of({2, 4, 4}), flat = view_of({24});
  const check::Arg q{"attention", "q", t}, k{"attention", "k", other}, f{"attention", "f", flat};
  const check::Arg b{"attention", "b", bf16};
  run({
      {[&] { check::rank(q, 3); }, ""},
      {[&] { check::rank(q, 4); }, "attention: q: got rank 3 (shape [2, 3, 4]), expected rank 4"},
      {[&] { check::rank_at_least(q, 3); }, ""},
      {[&] { check::rank_at_least(f, 2); },
       "attention: f: got rank 1 (shape [24]), expected rank 2 or more"},
      {[&] { check::dim(q, 1, 3, "num_qo_heads"); }, ""},
      {[&] { check::dim(q, 1, 8, "num_qo_heads"); },
       "attention: q: got 3 in dimension 1 (shape [2, 3, 4]), expected 8 (num_qo_heads)"},
      {[&] { check::dim(f, 1, 8, "num_qo_heads"); },
       "attention: f: got rank 1 (shape [24]), expected rank 2 or more"},
      {[&] { check::dtype(b, {DType::f16, DType::bf16}); }, "", ErrorCode::invalid_argument},
      {[&] { check::dtype(q, {DType::f16, DType::bf16}); },
       "attention: q: got f32, expected f16 or bf16", ErrorCode::wrong_type},
      {[&] { check::same_shape(q, b); }, ""},
      {[&] { check::same_shape(k, q); },
       "attention: k: got shape [2, 4, 4], expected [2, 3, 4], the shape of q"},
      {[&] { check::same_shape(f, q); },
       "attention: f: got shape [24], expected [2, 3, 4], the shape of q"},
  });
}

TEST(Check, DevicesAreBothNamed) {
  const TensorView on_gpu = view_of({2}, DType::f32, cuda_device(1)), on_cpu = view_of({2});
  const check::Arg value{"append", "value", on_gpu}, key{"append", "key", on_cpu};
  run({
      {[&] { check::device(value, value); }, ""},
      {[&] { check::device(value, key); },
       "append: value: got cuda:1, expected cpu, the device of key"},
  });
}

TEST(Check, Strides) {
  const TensorView t = view_of({2, 3}), rows = with_strides(t, {8, 1});
  const TensorView columns = with_strides(t, {1, 2});
  const TensorView thin = with_strides(view_of({3, 1}), {1, 9});
  const check::Arg q{"op", "q", t}, r{"op", "r", rows}, c{"op", "c", columns}, n{"op", "n", thin};
  run({
      {[&] { check::last_dim_contiguous(q); }, ""},
      {[&] { check::last_dim_contiguous(r); }, ""},
      {[&] { check::last_dim_contiguous(n); }, ""},
      {[&] { check::last_dim_contiguous(c); },
       "op: c: got strides [1, 2], expected stride 1 in the last dimension"},
      {[&] { check::contiguous(q); }, ""},
      {[&] { check::contiguous(r); },
       "op: r: got strides [8, 1] for shape [2, 3], expected a contiguous tensor"},
  });
}

TEST(Check, Memory) {
  const TensorView good = view_of({2, 3}), null = without_data(good);
  const TensorView empty = without_data(view_of({0, 3})), odd = at_offset(good, 2);
  TensorView negative = good, huge = good, too_deep = good;
  negative.shape[1] = -1;
  huge.shape[0] = huge.shape[1] = 1LL << 32;
  too_deep.rank = 9;
  run({
      {[&] { check::memory({"op", "q", good}); }, ""},
      {[&] { check::memory({"op", "q", empty}); }, ""},
      {[&] { check::memory({"op", "q", null}); },
       "op: q: got a null pointer, expected memory for shape [2, 3]"},
      {[&] { check::memory({"op", "q", negative}); },
       "op: q: got shape [2, -1], expected sizes that are not negative"},
      {[&] { check::memory({"op", "q", huge}); },
       "op: q: got shape [4294967296, 4294967296], expected fewer than 2^63 elements"},
      {[&] { check::memory({"op", "q", too_deep}); }, "op: q: got rank 9, expected rank 0 to 8"},
  });
  try {
    check::memory({"op", "q", odd});
    ADD_FAILURE() << "a misaligned pointer passed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("aligned to 4 bytes for f32"), std::string::npos);
  }
}

TEST(Check, OutputsMustNotOverlap) {
  const TensorView base = view_of({2, 3});
  const struct {
    std::vector<std::int64_t> strides;
    bool overlaps;
  } kCases[] = {{{3, 1}, false}, {{4, 1}, false}, {{1, 2}, false}, {{-3, 1}, false},
                {{0, 1}, true},  {{3, 0}, true},  {{2, 1}, true},  {{1, 1}, true}};
  for (const auto& each : kCases) {
    const TensorView view = with_strides(base, each.strides);
    EXPECT_NO_THROW(check::memory({"op", "out", view}));
    if (each.overlaps) {
      EXPECT_THROW(check::memory({"op", "out", view}, true), Error) << to_string(view);
    } else {
      EXPECT_NO_THROW(check::memory({"op", "out", view}, true)) << to_string(view);
    }
  }
  const TensorView one = with_strides(view_of({1, 3}), {0, 1});
  EXPECT_NO_THROW(check::memory({"op", "out", one}, true)) << "one element cannot repeat";
}

TEST(Check, FinitePositive) {
  EXPECT_NO_THROW(check::finite_positive("op", "eps", 1e-30));
  for (const double value : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_THROW(check::finite_positive("op", "eps", value), Error) << value;
  }
}

TEST(Check, RowsAligned) {
  const TensorView rows = view_of({4, 8}, DType::f16);
  EXPECT_TRUE(check::rows_aligned(rows, 16));
  EXPECT_FALSE(check::rows_aligned(rows, 32));
  EXPECT_FALSE(check::rows_aligned(at_offset(rows, 8), 16));
  EXPECT_FALSE(check::rows_aligned(with_strides(rows, {12, 1}), 16));
  EXPECT_TRUE(check::rows_aligned(with_strides(rows, {16, 1}), 16));
}

}  // namespace
}  // namespace quire
