// What BatchAttention says to bad input, and that it changes nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support/attention_case.h"
#include "support/expect_error.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

constexpr ErrorCode kInvalid = ErrorCode::invalid_argument;
constexpr ErrorCode kWrongType = ErrorCode::wrong_type;

// Arrays of a batch of two requests with kv_len 20 and 7, page_size 16.
struct PlanArrays {
  AttentionShape shape{
      .num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .page_size = 16};
  AttentionPlanOptions options;
  TestTensor qo = TestTensor::ints({0, 1, 3}, kCpu);
  TestTensor kv = TestTensor::ints({0, 2, 3}, kCpu);
  TestTensor indices = TestTensor::ints({4, 1, 0}, kCpu);
  TestTensor last = TestTensor::ints({4, 7}, kCpu);
  TensorView qo_view = qo, kv_view = kv, indices_view = indices, last_view = last;

  void plan(BatchAttention& attention) const {
    attention.plan(shape, qo_view, PageTable{kv_view, indices_view, last_view}, options);
  }
};

struct BadPlan {
  std::function<void(PlanArrays&)> spoil;
  ErrorCode code;
  std::string text;  // after "attention.plan: "
};

void replace(TestTensor& tensor, TensorView& view, const std::vector<std::int32_t>& values) {
  tensor = TestTensor::ints(values, kCpu);
  view = tensor;
}

std::vector<BadPlan> bad_shapes() {
  return {
      {[](PlanArrays& a) { a.shape.num_qo_heads = 0; }, kInvalid,
       "num_qo_heads: got 0, expected 1 or more"},
      {[](PlanArrays& a) { a.shape.num_kv_heads = -1; }, kInvalid,
       "num_kv_heads: got -1, expected 1 or more"},
      {[](PlanArrays& a) { a.shape.num_kv_heads = 3; }, kInvalid,
       "num_qo_heads: got 4, expected a multiple of num_kv_heads, 3"},
      {[](PlanArrays& a) { a.shape.head_dim_qk = 72; }, kInvalid,
       "head_dim_qk: got 72, expected a multiple of 16 from 16 to 256"},
      {[](PlanArrays& a) { a.shape.head_dim_vo = 272; }, kInvalid,
       "head_dim_vo: got 272, expected a multiple of 16 from 16 to 256"},
      {[](PlanArrays& a) { a.shape.page_size = 0; }, kInvalid,
       "page_size: got 0, expected 1 or more"},
      {[](PlanArrays& a) { a.shape.q_dtype = DType::i32; }, kWrongType,
       "q_dtype: got i32, expected f32 or f16 or bf16 or f8e4m3"},
      {[](PlanArrays& a) { a.shape.q_dtype = DType::f8e5m2; }, kWrongType,
       "q_dtype: got f8e5m2, expected f32 or f16 or bf16 or f8e4m3"},
      {[](PlanArrays& a) { a.shape.q_dtype = DType::f8e4m3; }, kWrongType,
       "kv_dtype: got bf16, expected f8e4m3"},
      {[](PlanArrays& a) { a.shape.kv_dtype = DType::u8; }, kWrongType,
       "kv_dtype: got u8, expected f32 or f16 or bf16 or f8e4m3 or f8e5m2"},
      {[](PlanArrays& a) { a.shape.o_dtype = DType::f8e4m3; }, kWrongType,
       "o_dtype: got f8e4m3, expected f32 or f16 or bf16"},
      {[](PlanArrays& a) { a.options.window_left = -2; }, kInvalid,
       "window_left: got -2, expected -1 or more"},
      {[](PlanArrays& a) { a.options.fixed_split_size = -1; }, kInvalid,
       "fixed_split_size: got -1, expected 0 or more"},
  };
}

std::vector<BadPlan> bad_arrays() {
  return {
      {[](PlanArrays& a) { replace(a.qo, a.qo_view, {1, 1, 3}); }, kInvalid,
       "qo_indptr: got 1 at [0], expected 0"},
      {[](PlanArrays& a) { replace(a.qo, a.qo_view, {0, 4, 3}); }, kInvalid,
       "qo_indptr: got 3 at [2] after 4, expected values that do not decrease"},
      {[](PlanArrays& a) { replace(a.kv, a.kv_view, {0, 3, 2}); }, kInvalid,
       "kv_indptr: got 2 at [2] after 3, expected values that do not decrease"},
      {[](PlanArrays& a) { replace(a.qo, a.qo_view, {0, 1}); }, kInvalid,
       "qo_indptr and kv_indptr: got 2 and 3 entries, expected the same number, batch + 1"},
      {[](PlanArrays& a) { a.qo_view.dtype = DType::f32; }, kWrongType,
       "qo_indptr: got f32, expected i32"},
      {[](PlanArrays& a) { a.kv_view.dtype = DType::i64; }, kWrongType,
       "kv_indptr: got i64, expected i32"},
      {[](PlanArrays& a) { a.qo_view.strides[0] = 2; }, kInvalid,
       "qo_indptr: got strides [2] for shape [3], expected a contiguous tensor"},
      {[](PlanArrays& a) { a.qo_view.device = cuda_device(3); }, kInvalid,
       "qo_indptr: got cuda:3, expected cpu: planning reads it on the host"},
      {[](PlanArrays& a) { a.last_view.device = cuda_device(0); }, kInvalid,
       "kv_last_page_len: got cuda:0, expected cpu: planning reads it on the host"},
      {[](PlanArrays& a) { a.kv_view.rank = 2; }, kInvalid,
       "kv_indptr: got rank 2 (shape [3, 0]), expected rank 1"},
      {[](PlanArrays& a) { replace(a.last, a.last_view, {0, 7}); }, kInvalid,
       "kv_last_page_len: got 0 at [0], expected 1 to 16, the page_size"},
      {[](PlanArrays& a) { replace(a.last, a.last_view, {4, 17}); }, kInvalid,
       "kv_last_page_len: got 17 at [1], expected 1 to 16, the page_size"},
      {[](PlanArrays& a) { replace(a.last, a.last_view, {4}); }, kInvalid,
       "kv_last_page_len: got 1 in dimension 0 (shape [1]), expected 2 (batch)"},
      {[](PlanArrays& a) { replace(a.indices, a.indices_view, {4, 1}); }, kInvalid,
       "kv_indices: got 2 entries, expected at least 3, the last entry of kv_indptr"},
      {[](PlanArrays& a) { replace(a.indices, a.indices_view, {4, 1, -7}); }, kInvalid,
       "kv_indices: got -7 at [2] (request 1), expected page ids of 0 or more"},
      {[](PlanArrays& a) { a.indices_view.device = cuda_device(5); }, kInvalid,
       "kv_indices: got cuda:5, expected cpu" +
           (test_device().is_cpu() ? std::string() : " or " + to_string(test_device()))},
      {[](PlanArrays& a) { a.qo_view.data = nullptr; }, kInvalid,
       "qo_indptr: got a null pointer, expected memory for shape [3]"},
  };
}

TEST(AttentionErrors, BadPlansAreNamedAndLeaveTheLastOne) {
  const AttentionCase good;
  const AttentionBatch batch(good);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  const TestTensor expected = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  attention.run(batch.q(), batch.kv(), expected);
  std::vector<BadPlan> rows = bad_shapes();
  for (BadPlan& row : bad_arrays()) rows.push_back(std::move(row));
  for (const BadPlan& row : rows) {
    PlanArrays arrays;
    row.spoil(arrays);
    expect_error([&] { arrays.plan(attention); }, row.code, "attention.plan: " + row.text);
  }
  attention.run(batch.q(), batch.kv(), out);
  EXPECT_EQ(out.raw(), expected.raw());
}

TEST(AttentionErrors, RaggedPlanWantsNoPages) {
  const PlanArrays a;
  BatchAttention attention(test_device());
  expect_error([&] { attention.plan(a.shape, a.qo, a.kv); }, kInvalid,
               "attention.plan: page_size: got 16, expected 0 for ragged KV");
}

TEST(AttentionErrors, ShapesWithoutCudaKernel) {
  if (test_device().is_cpu()) GTEST_SKIP() << "the CPU backend has all dtypes";
  BatchAttention attention(test_device());
  const auto plan = [&](DType q, DType kv) {
    PlanArrays arrays;
    arrays.shape.q_dtype = q;
    arrays.shape.kv_dtype = kv;
    arrays.plan(attention);
  };
  expect_error(
      [&] { plan(DType::bf16, DType::f32); }, ErrorCode::not_implemented,
      "attention: kv_dtype: got f32, expected bf16 (as q_dtype), f8e4m3 or f8e5m2 on CUDA");
  if (!is_emulated() || wants_hopper()) return;  // a real one may be Hopper
  expect_error([&] { plan(DType::f8e4m3, DType::f8e4m3); }, ErrorCode::not_implemented,
               "attention: q_dtype: got f8e4m3, expected f16 or bf16 on CUDA: fp8 queries are only "
               "on Hopper");
}

TEST(AttentionErrors, Fp8QueriesWithoutCudaKernel) {
  if (!wants_hopper()) GTEST_SKIP() << "needs QUIRE_TEST_DEVICE=emulator90";
  AttentionCase c{.qo_lens = {1}, .kv_lens = {20}};
  c.shape.q_dtype = c.shape.kv_dtype = DType::f8e4m3;
  c.variant = sigmoid_variant(2);
  expect_error([&] { AttentionBatch(c).run(); }, ErrorCode::not_implemented,
               "attention: variant: got one without softmax, expected one with it for f8e4m3 "
               "queries on CUDA: its weights may leave the range of 8 bits");
}

// Everything run() takes, good until spoilt.
struct RunArguments {
  AttentionBatch batch{AttentionCase{.qo_lens = {1, 2}, .kv_lens = {20, 7}}};
  TestTensor out_tensor = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  TestTensor lse_tensor = TestTensor::poisoned(batch.lse_shape(), DType::f32);
  TestTensor floats = TestTensor::random({4}, DType::f32, 1);
  TestTensor mask = TestTensor::bytes({0xff, 0xff, 0xff, 0xff, 0xff});
  TestTensor mask_indptr = TestTensor::ints({0, 3, 5});
  TensorView q = batch.q(), out = out_tensor;
  PagedKv kv = batch.kv();
  std::optional<TensorView> lse = lse_tensor.view();
  AttentionOptions options;
};

struct BadRun {
  std::function<void(RunArguments&)> spoil;
  ErrorCode code;
  std::string text;  // after "attention.run: "
};

std::vector<BadRun> bad_tensors() {
  const std::string here = to_string(test_device()), there = to_string(other_device());
  return {
      {[](RunArguments& a) { a.q.rank = 2; }, kInvalid,
       "q: got rank 2 (shape [3, 4]), expected rank 3"},
      {[](RunArguments& a) { a.q.shape[0] = 2; }, kInvalid,
       "q: got 2 in dimension 0 (shape [2, 4, 64]), expected 3 (total_q, the last entry of "
       "qo_indptr)"},
      {[](RunArguments& a) { a.q.shape[1] = 2; }, kInvalid,
       "q: got 2 in dimension 1 (shape [3, 2, 64]), expected 4 (num_qo_heads)"},
      {[](RunArguments& a) { a.q.dtype = DType::f16; }, kWrongType, "q: got f16, expected bf16"},
      {[](RunArguments& a) { a.q.strides[2] = 2; }, kInvalid,
       "q: got strides [256, 64, 2], expected stride 1 in the last dimension"},
      {[=](RunArguments& a) { a.q.device = other_device(); }, kInvalid,
       "q: got " + there + ", expected " + here + ", the device of the plan"},
      {[=](RunArguments& a) { a.kv.k.device = other_device(); }, kInvalid,
       "k: got " + there + ", expected " + here + ", the device of q"},
      {[=](RunArguments& a) { a.out.device = other_device(); }, kInvalid,
       "out: got " + there + ", expected " + here + ", the device of q"},
      {[](RunArguments& a) { a.q.data = nullptr; }, kInvalid,
       "q: got a null pointer, expected memory for shape [3, 4, 64]"},
      {[](RunArguments& a) { a.kv.v.strides[3] = 2; }, kInvalid,
       "v: got strides [2048, 128, 64, 2], expected stride 1 in the last dimension"},
      {[](RunArguments& a) { a.kv.v.shape[0] = 2; }, kInvalid,
       "v: got 2 in dimension 0 (shape [2, 16, 2, 64]), expected 6 (num_pages of k)"},
      {[](RunArguments& a) { a.out.dtype = DType::f32; }, kWrongType,
       "out: got f32, expected bf16"},
      {[](RunArguments& a) { a.out.strides[1] = 0; }, kInvalid,
       "out: got strides [256, 0, 1] for shape [3, 4, 64], expected an output whose elements do "
       "not overlap"},
      {[](RunArguments& a) { a.lse->dtype = DType::f16; }, kWrongType,
       "lse: got f16, expected f32"},
      {[](RunArguments& a) { a.lse->shape[1] = 3; }, kInvalid,
       "lse: got 3 in dimension 1 (shape [3, 3]), expected 4 (num_qo_heads)"},
  };
}

std::vector<BadRun> bad_options() {
  return {
      {[](RunArguments& a) { a.options.sm_scale = -1; }, kInvalid,
       "sm_scale: got -1, expected a finite number of 0 or more"},
      {[](RunArguments& a) { a.options.sm_scale = NAN; }, kInvalid,
       "sm_scale: got nan, expected a finite number of 0 or more"},
      {[](RunArguments& a) { a.options.logits_soft_cap = INFINITY; }, kInvalid,
       "logits_soft_cap: got inf, expected a finite number of 0 or more"},
      {[](RunArguments& a) { a.options.q_scale = -1; }, kInvalid,
       "q_scale: got -1, expected a finite number above 0"},
      {[](RunArguments& a) { a.options.q_scales = a.floats; }, kInvalid,
       "q_scales: got a tensor, expected none: q_dtype is bf16, scales a head are for fp8"},
      {[](RunArguments& a) { a.options.k_scales = a.floats.view().slice(0, 0, 2); }, kInvalid,
       "k_scales: got a tensor, expected none: kv_dtype is bf16, scales a head are for fp8"},
      {[](RunArguments& a) { a.options.v_scales = a.floats.view().slice(0, 0, 2); }, kInvalid,
       "v_scales: got a tensor, expected none: kv_dtype is bf16, scales a head are for fp8"},
      {[](RunArguments& a) { a.options.k_scale = 0; }, kInvalid,
       "k_scale: got 0, expected a finite number above 0"},
      {[](RunArguments& a) { a.options.v_scale = NAN; }, kInvalid,
       "v_scale: got nan, expected a finite number above 0"},
      {[](RunArguments& a) { a.options.window_left = -5; }, kInvalid,
       "window_left: got -5, expected -1 or more"},
      {[](RunArguments& a) { a.options.custom_mask = a.mask; }, kInvalid,
       "mask_indptr: got none, expected one with custom_mask"},
      {[](RunArguments& a) { a.options.mask_indptr = a.mask_indptr; }, kInvalid,
       "custom_mask: got none, expected one with mask_indptr"},
      {[](RunArguments& a) {
         a.options.custom_mask = a.mask.view().slice(0, 0, 4);
         a.options.mask_indptr = a.mask_indptr;
       },
       kInvalid,
       test_device().is_cpu()
           ? "mask_indptr: got 3 at [1], expected 0 to 2: request 1 has 2 bytes "
             "of a custom_mask of 4"
           : "custom_mask: got 4 bytes, expected at least 5, a bit for each query "
             "row and KV token"},
      {[](RunArguments& a) {
         a.options.custom_mask = a.mask;
         a.options.mask_indptr = a.mask_indptr.view().slice(0, 0, 2);
       },
       kInvalid, "mask_indptr: got 2 in dimension 0 (shape [2]), expected 3 (batch + 1)"},
      {[](RunArguments& a) { a.options.sinks = a.floats.view().slice(0, 0, 2); }, kInvalid,
       "sinks: got 2 in dimension 0 (shape [2]), expected 4 (num_qo_heads)"},
      {[](RunArguments& a) {
         a.options.sinks = a.floats;
         a.options.sinks->dtype = DType::bf16;
       },
       kWrongType, "sinks: got bf16, expected f32"},
      {[](RunArguments& a) { a.options.alibi_slopes = a.floats.view().slice(0, 0, 3); }, kInvalid,
       "alibi_slopes: got 3 in dimension 0 (shape [3]), expected 4 (num_qo_heads)"},
      {[](RunArguments& a) {
         a.options.alibi_slopes = a.floats;
         a.options.alibi_slopes->device = other_device();
       },
       kInvalid,
       "alibi_slopes: got " + to_string(other_device()) + ", expected " + to_string(test_device()) +
           ", the device of q"},
  };
}

TEST(AttentionErrors, BadRunsAreNamedAndWriteNothing) {
  std::vector<BadRun> rows = bad_tensors();
  for (BadRun& row : bad_options()) rows.push_back(std::move(row));
  for (const BadRun& row : rows) {
    RunArguments a;
    BatchAttention attention(test_device());
    a.batch.plan(attention);
    row.spoil(a);
    expect_error([&] { attention.run(a.q, a.kv, a.out, a.lse, a.options); }, row.code,
                 "attention.run: " + row.text);
    for (const double x : a.out_tensor.values()) ASSERT_TRUE(std::isnan(x)) << row.text;
    for (const double x : a.lse_tensor.values()) ASSERT_TRUE(std::isnan(x)) << row.text;
  }
}

TEST(AttentionErrors, ScalesOfHeads) {
  AttentionCase c{.qo_lens = {1, 2}, .kv_lens = {20, 7}};
  c.shape.kv_dtype = DType::f8e4m3;
  const AttentionBatch batch(c);
  const TestTensor floats = TestTensor::random({4}, DType::f32, 1);
  const TestTensor out = TestTensor::poisoned(batch.out_shape(), DType::bf16);
  BatchAttention attention(test_device());
  batch.plan(attention);
  const TensorView good = floats.view().slice(0, 0, 2);
  TensorView ints = good, strided = good, elsewhere = good;
  ints.dtype = DType::i32;
  strided.strides[0] = 2;
  elsewhere.device = other_device();
  const auto expect = [&](const AttentionOptions& options, ErrorCode code,
                          const std::string& text) {
    expect_error([&] { attention.run(batch.q(), batch.kv(), out, {}, options); }, code,
                 "attention.run: " + text);
  };
  expect({.k_scales = floats}, kInvalid,
         "k_scales: got 4 in dimension 0 (shape [4]), expected 2 (num_kv_heads)");
  expect({.v_scales = floats}, kInvalid,
         "v_scales: got 4 in dimension 0 (shape [4]), expected 2 (num_kv_heads)");
  expect({.k_scales = ints}, kWrongType, "k_scales: got i32, expected f32");
  expect({.v_scales = strided}, kInvalid,
         "v_scales: got strides [2] for shape [2], expected a contiguous tensor");
  expect({.v_scales = elsewhere}, kInvalid,
         "v_scales: got " + to_string(other_device()) + ", expected " + to_string(test_device()) +
             ", the device of q");
  expect({.q_scales = floats}, kInvalid,
         "q_scales: got a tensor, expected none: q_dtype is bf16, scales a head are for fp8");
  for (const double x : out.values()) ASSERT_TRUE(std::isnan(x));
}

TEST(AttentionErrors, PageOutsideThePool) {
  PlanArrays arrays;
  RunArguments a;  // 6 pages: 3 used, 3 not
  replace(arrays.indices, arrays.indices_view, {0, 6, 1});
  BatchAttention attention(test_device());
  arrays.plan(attention);
  expect_error(
      [&] { attention.run(a.q, a.kv, a.out); }, kInvalid,
      "attention.run: kv_indices: got 6 at [1] (request 0), expected page ids below 6, the "
      "num_pages of k");
}

TEST(AttentionErrors, MisalignedPointer) {
  RunArguments a;
  BatchAttention attention(test_device());
  a.batch.plan(attention);
  a.q.data = static_cast<std::uint8_t*>(a.q.data) + 1;
  try {
    attention.run(a.q, a.kv, a.out);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kInvalid);
    EXPECT_NE(std::string(error.what()).find("an address aligned to 2 bytes for bf16"),
              std::string::npos)
        << error.what();
  }
}

TEST(AttentionErrors, RunWithoutItsPlan) {
  RunArguments a;
  BatchAttention attention(test_device());
  expect_error([&] { attention.run(a.q, a.kv, a.out); }, kInvalid,
               "attention.run: plan: got none, expected a call of plan() before");
  a.batch.plan(attention);
  expect_error([&] { attention.run(a.q, a.kv.k, a.kv.v, a.out); }, kInvalid,
               "attention.run: kv: got ragged k and v, expected a paged pool, as planned");
}

TEST(AttentionErrors, BadWorkspace) {
  BatchAttention attention(test_device());
  const TestTensor floats = TestTensor::poisoned({64}, DType::f32);
  expect_error([&] { attention.set_workspace(floats.view()); }, kWrongType,
               "attention.set_workspace: workspace: got f32, expected u8");
  TensorView elsewhere = TestTensor::poisoned({64}, DType::u8);
  elsewhere.device = other_device();
  expect_error([&] { attention.set_workspace(elsewhere); }, kInvalid,
               "attention.set_workspace: workspace: got " + to_string(other_device()) +
                   ", expected " + to_string(test_device()));
  const TestTensor bytes = TestTensor::poisoned({64}, DType::u8);
  EXPECT_THROW(attention.set_workspace(bytes.view().slice(0, 8, 64)), Error);
}

}  // namespace
}  // namespace quire::test
