#include "quire/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>

#include "cpu/openblas.h"
#include "support/expect_error.h"
#include "support/padded_tensor.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

#if QUIRE_WITH_CUDA
#include "cuda/driver.h"
#include "support/fake_cublaslt.h"
#endif

namespace quire {
namespace {

using test::PaddedTensor;
using test::TestTensor;

// On the emulator cuBLASLt is a fake that does what it is told on the host.
class Gemm : public testing::Test {
 protected:
#if QUIRE_WITH_CUDA
  void SetUp() override {
    if (test::is_emulated()) cuda::replace_cublaslt_for_testing(&test::fake_cublaslt());
  }
  void TearDown() override {
    if (test::is_emulated()) cuda::replace_cublaslt_for_testing(nullptr);
  }
#endif
};

struct GemmCase {
  std::int64_t m, n, k;
  std::int64_t before = 0, behind = 0;  // padding of every row
};

std::vector<GemmCase> gemm_cases() {
  std::vector<GemmCase> cases = {{1, 1, 1},        {1, 5, 3},         {2, 7, 16},
                                 {5, 3, 33, 1, 2}, {8, 24, 64, 8, 8}, {1, 17, 40, 3, 0},
                                 {13, 1, 9, 0, 1}};
  if (!test::is_emulated()) {
    const std::vector<GemmCase> large = {{1, 700, 512},         {257, 100, 64},
                                         {513, 40, 300, 0, 4},  {3, 300, 9000},
                                         {64, 1000, 256, 8, 8}, {2, 33, 70000}};
    cases.insert(cases.end(), large.begin(), large.end());
  }
  return cases;
}

// Also the sums of magnitudes, which the error is measured against.
struct Reference {
  std::vector<double> out, magnitude;
};

Reference reference_gemm(const std::vector<double>& a, const std::vector<double>& weight,
                         const GemmCase& c) {
  Reference r;
  for (std::int64_t i = 0; i < c.m; ++i) {
    for (std::int64_t j = 0; j < c.n; ++j) {
      double sum = 0, magnitude = 0;
      for (std::int64_t l = 0; l < c.k; ++l) {
        const double product = a[i * c.k + l] * weight[j * c.k + l];
        sum += product;
        magnitude += std::abs(product);
      }
      r.out.push_back(sum);
      r.magnitude.push_back(magnitude);
    }
  }
  return r;
}

void expect_close(const std::vector<double>& out, const Reference& ref, DType out_dtype) {
  ASSERT_EQ(out.size(), ref.out.size());
  const double storing = out_dtype == DType::f32   ? 0x1p-24
                         : out_dtype == DType::f16 ? 0x1p-11
                                                   : 0x1p-8;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double bound = 1e-5 * ref.magnitude[i] + storing * 1.01 * std::abs(ref.out[i]) + 1e-7;
    if (!(std::abs(out[i] - ref.out[i]) <= bound)) {
      FAIL() << "element " << i << ": " << out[i] << ", expected " << ref.out[i];
    }
  }
}

void check_case(const GemmCase& c, DType dtype, DType out_dtype) {
  SCOPED_TRACE(std::string(name(dtype)) + " to " + std::string(name(out_dtype)) + " m " +
               std::to_string(c.m) + " n " + std::to_string(c.n) + " k " + std::to_string(c.k));
  const auto a_values = test::rounded(test::random_values(c.m * c.k, 1), dtype);
  const auto w_values = test::rounded(test::random_values(c.n * c.k, 2), dtype);
  const PaddedTensor a(a_values, {c.m, c.k}, dtype, c.before, c.behind);
  const PaddedTensor weight(w_values, {c.n, c.k}, dtype, c.behind, c.before);
  const PaddedTensor out({}, {c.m, c.n}, out_dtype, c.before, c.behind);
  gemm(a, weight, out);
  synchronize(test::test_device());
  expect_close(out.values(), reference_gemm(a_values, w_values, c), out_dtype);
  EXPECT_TRUE(out.padding_intact());
  EXPECT_TRUE(a.unchanged());
  EXPECT_TRUE(weight.unchanged());
}

TEST_F(Gemm, MatchesReference) {
  for (const GemmCase& c : gemm_cases()) {
    check_case(c, DType::f32, DType::f32);
    for (const DType dtype : {DType::f16, DType::bf16}) {
      check_case(c, dtype, dtype);
      check_case(c, dtype, DType::f32);
    }
  }
}

TEST_F(Gemm, EmptySumIsZero) {
  const auto a = TestTensor::poisoned({3, 0}, DType::bf16);
  const auto weight = TestTensor::poisoned({5, 0}, DType::bf16);
  const PaddedTensor out({}, {3, 5}, DType::bf16, 1, 2);
  gemm(a, weight, out);
  synchronize(test::test_device());
  EXPECT_EQ(out.values(), std::vector<double>(15, 0.0));
  EXPECT_TRUE(out.padding_intact());
}

TEST_F(Gemm, WithoutRowsDoesNothing) {
  const auto weight = TestTensor::random({5, 4}, DType::f32, 1);
  gemm(TestTensor::poisoned({0, 4}, DType::f32), weight, TestTensor::poisoned({0, 5}, DType::f32));
  const auto a = TestTensor::random({3, 4}, DType::f32, 1);
  gemm(a, TestTensor::poisoned({0, 4}, DType::f32), TestTensor::poisoned({3, 0}, DType::f32));
}

TEST_F(Gemm, StrideOfASingleRowMeansNothing) {
  const auto a = TestTensor::from({1, 2, 3}, {1, 3}, DType::f32);
  const auto weight = TestTensor::from({4, 5, 6}, {1, 3}, DType::f32);
  const auto out = TestTensor::poisoned({1, 1}, DType::f32);
  const auto with_stride = [](TensorView view, std::int64_t stride) {
    view.strides[0] = stride;
    return view;
  };
  gemm(with_stride(a, 0), with_stride(weight, -7), with_stride(out, std::int64_t{1} << 40));
  synchronize(test::test_device());
  EXPECT_EQ(out.values(), std::vector<double>{32});
}

TEST_F(Gemm, ThreadsMayCallItAtOnce) {
  const GemmCase c{4, 50, 32};
  const auto a_values = test::random_values(c.m * c.k, 1);
  const auto w_values = test::random_values(c.n * c.k, 2);
  const auto a = TestTensor::from(a_values, {c.m, c.k}, DType::f32);
  const auto weight = TestTensor::from(w_values, {c.n, c.k}, DType::f32);
  std::vector<TestTensor> outs;
  for (int i = 0; i < 4; ++i) outs.push_back(TestTensor::poisoned({c.m, c.n}, DType::f32));
  std::vector<std::thread> threads;
  for (const TestTensor& out : outs) {
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 5; ++repeat) gemm(a, weight, out);
    });
  }
  for (std::thread& thread : threads) thread.join();
  synchronize(test::test_device());
  const Reference reference = reference_gemm(a_values, w_values, c);
  for (const TestTensor& out : outs) {
    expect_close(out.values(), reference, DType::f32);
    EXPECT_TRUE(out.guards_intact());
  }
}

TEST_F(Gemm, BadInputIsNamed) {
  const auto a = TestTensor::random({3, 4}, DType::f16, 1);
  const auto weight = TestTensor::random({5, 4}, DType::f16, 2);
  const auto out = TestTensor::poisoned({3, 5}, DType::f16);
  const auto clean = out.raw();
  const auto other = TestTensor::from(std::vector<double>(20), {5, 4}, DType::f16, kCpu);
  TensorView elsewhere = other;
  elsewhere.device = test::other_device();
  const std::string here = to_string(test::test_device()), there = to_string(elsewhere.device);
  const auto strided = [](TensorView view, std::int64_t row, std::int64_t column) {
    view.strides[0] = row;
    view.strides[1] = column;
    return view;
  };
  TensorView null = a;
  null.data = nullptr;
  const auto f32 = TestTensor::poisoned({3, 4}, DType::f32);
  const auto vector = TestTensor::poisoned({4}, DType::f16);
  test::expect_errors({
      {[&] { gemm(vector, weight, out); }, ErrorCode::invalid_argument,
       "gemm: a: got rank 1 (shape [4]), expected rank 2"},
      {[&] { gemm(TestTensor::poisoned({3, 4}, DType::i32), weight, out); }, ErrorCode::wrong_type,
       "gemm: a: got i32, expected f32 or f16 or bf16"},
      {[&] { gemm(f32, weight, out); }, ErrorCode::wrong_type,
       "gemm: weight: got f16, expected f32"},
      {[&] { gemm(a, weight, TestTensor::poisoned({3, 5}, DType::bf16)); }, ErrorCode::wrong_type,
       "gemm: out: got bf16, expected f16 or f32"},
      {[&] { gemm(a, TestTensor::poisoned({5, 6}, DType::f16), out); }, ErrorCode::invalid_argument,
       "gemm: weight: got 6 in dimension 1 (shape [5, 6]), expected 4 (the columns of a)"},
      {[&] { gemm(a, weight, TestTensor::poisoned({2, 5}, DType::f16)); },
       ErrorCode::invalid_argument,
       "gemm: out: got 2 in dimension 0 (shape [2, 5]), expected 3 (the rows of a)"},
      {[&] { gemm(a, weight, TestTensor::poisoned({3, 6}, DType::f16)); },
       ErrorCode::invalid_argument,
       "gemm: out: got 6 in dimension 1 (shape [3, 6]), expected 5 (the rows of weight)"},
      {[&] { gemm(a, elsewhere, out); }, ErrorCode::invalid_argument,
       "gemm: weight: got " + there + ", expected " + here + ", the device of a"},
      {[&] { gemm(strided(a, 1, 3), weight, out); }, ErrorCode::invalid_argument,
       "gemm: a: got strides [1, 3], expected stride 1 in the last dimension"},
      {[&] { gemm(a, strided(weight, 3, 1), out); }, ErrorCode::invalid_argument,
       "gemm: weight: got row stride 3, expected at least 4, the row length"},
      {[&] { gemm(a, weight, strided(out, 0, 1)); }, ErrorCode::invalid_argument,
       "gemm: out: got row stride 0, expected at least 5, the row length"},
      {[&] { gemm(null, weight, out); }, ErrorCode::invalid_argument,
       "gemm: a: got a null pointer, expected memory for shape [3, 4]"},
  });
  EXPECT_EQ(out.raw(), clean);
}

// The child process starts without a loaded library.
void exit_with_missing_library(const char* variable, const std::string& expected) {
  setenv(variable, "/nowhere/library.so", 1);
  const auto one = TestTensor::from({1}, {1, 1}, DType::f32);
  try {
    gemm(one, one, TestTensor::poisoned({1, 1}, DType::f32));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::device_unavailable && error.what() == expected) std::exit(0);
    std::fputs(error.what(), stderr);
  }
  std::exit(1);
}

TEST(GemmDeathTest, MissingLibraryIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  if (test::test_device().is_cpu()) {
    EXPECT_EXIT(exit_with_missing_library(
                    "QUIRE_OPENBLAS",
                    "gemm: OpenBLAS: got none of /nowhere/library.so, expected one of them to "
                    "load: install OpenBLAS (Debian: libopenblas0) or set QUIRE_OPENBLAS to its "
                    "file"),
                testing::ExitedWithCode(0), "");
  } else {
    EXPECT_EXIT(exit_with_missing_library(
                    "QUIRE_CUBLASLT",
                    "gemm: cuBLASLt: got none of /nowhere/library.so, expected one of them to "
                    "load: install it (for example the Python package nvidia-cublas) or set "
                    "QUIRE_CUBLASLT to its file"),
                testing::ExitedWithCode(0), "");
  }
}

TEST_F(Gemm, LeavesTheThreadsOfOpenBlasAsTheyWere) {
  if (!test::test_device().is_cpu()) GTEST_SKIP() << "OpenBLAS serves the CPU";
  const cpu::OpenBlas& blas = cpu::openblas();
  ASSERT_NE(blas.get_num_threads, nullptr);
  const int before = blas.get_num_threads();
  blas.set_num_threads(2);
  check_case({5, 40, 8}, DType::bf16, DType::f32);
  EXPECT_EQ(blas.get_num_threads(), 2);
  blas.set_num_threads(before);
}

#if QUIRE_WITH_CUDA
TEST_F(Gemm, ChoosesAnAlgorithmOnceAShapeAndAlignment) {
  if (!test::is_emulated()) GTEST_SKIP() << "counts the calls of a fake cuBLASLt";
  const auto a = TestTensor::random({3, 8}, DType::f16, 1);
  const auto weight = TestTensor::random({6, 8}, DType::f16, 2);
  const auto out = TestTensor::poisoned({3, 6}, DType::f16);
  const auto before = test::fake_cublaslt_calls();
  for (int i = 0; i < 3; ++i) gemm(a, weight, out);
  const auto same = test::fake_cublaslt_calls();
  EXPECT_EQ(same.heuristics - before.heuristics, 1);
  EXPECT_EQ(same.products - before.products, 3);
  EXPECT_EQ(same.handles - before.handles, 1);
  EXPECT_EQ(same.last_workspace_bytes, std::size_t{32} << 20);

  gemm(a.view().slice(0, 0, 2), weight, out.view().slice(0, 0, 2));
  EXPECT_EQ(test::fake_cublaslt_calls().heuristics - before.heuristics, 2);
  // The same shape at an address that is a multiple of 16 bytes only.
  gemm(a.view().slice(0, 1, 3), weight, out.view().slice(0, 0, 2));
  EXPECT_EQ(test::fake_cublaslt_calls().heuristics - before.heuristics, 3);
}

cuda::Result is_capturing(cuda::StreamHandle, int* status) {
  *status = 1;
  return 0;
}

TEST_F(Gemm, AllocatesNothingWhileAStreamIsCaptured) {
  if (!test::is_emulated()) GTEST_SKIP() << "replaces calls of a fake driver";
  const auto a = TestTensor::random({3, 8}, DType::f16, 1);
  const auto weight = TestTensor::random({6, 8}, DType::f16, 2);
  const auto out = TestTensor::poisoned({3, 6}, DType::f16);
  cuda::StreamHandle handle = nullptr;
  {
    const cuda::DeviceGuard guard(0);
    cuda::check(cuda::driver().stream_create(&handle, 0), "cuStreamCreate");
  }
  // The driver keeps a pointer to the table it is given.
  static const cuda::DriverTable emulated = cuda::driver();
  static cuda::DriverTable capturing = emulated;
  capturing.stream_is_capturing = is_capturing;
  capturing.mem_alloc = [](cuda::DevicePtr*, std::size_t) -> cuda::Result { return 900; };
  cuda::replace_driver_for_testing(&capturing);
  EXPECT_NO_THROW(gemm(a, weight, out, Stream{handle}));
  cuda::replace_driver_for_testing(&emulated);
  EXPECT_EQ(test::fake_cublaslt_calls().last_workspace_bytes, 0u);

  gemm(a, weight, out, Stream{handle});
  EXPECT_EQ(test::fake_cublaslt_calls().last_workspace_bytes, std::size_t{32} << 20);
  {
    const cuda::DeviceGuard guard(0);
    cuda::check(cuda::driver().stream_destroy(handle), "cuStreamDestroy");
  }
}
#endif

}  // namespace
}  // namespace quire
