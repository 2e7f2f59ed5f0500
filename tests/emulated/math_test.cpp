#include <cmath>
#include <functional>
#include <limits>

#include "emulated/primitive_kernel.h"
#include "support/test_tensor.h"

namespace quire::test {
namespace {

class Math : public PrimitiveTest {};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kSmallestNormal = 0x1p-126;

struct Function {
  const char* name;
  std::function<double(double x, double y)> exact;
  double relative_error;
  double absolute_error = 0;
};

double flush(double x) { return std::abs(x) < kSmallestNormal ? std::copysign(0., x) : x; }

// Bounds: the PTX ISA's for the approximate functions, CUDA's documented ulp errors for the others.
const std::vector<Function>& functions() {
  static const std::vector<Function> list = {
      {"exp2_approx", [](double x, double) { return flush(std::exp2(flush(x))); }, 0x1p-22},
      {"log2_approx", [](double x, double) { return std::log2(flush(x)); }, 0x1p-21, 0x1p-21},
      {"rsqrt_approx", [](double x, double) { return 1 / std::sqrt(flush(x)); }, 0x1p-22},
      {"exp_f32", [](double x, double) { return std::exp(x); }, 0x1p-22, 0x1p-149},
      {"log_f32", [](double x, double) { return std::log(x); }, 0x1p-22},
      {"pow_f32", [](double x, double y) { return std::pow(x, y); }, 0x1p-20, 0x1p-148},
      {"tanh_f32", [](double x, double) { return std::tanh(x); }, 0x1p-22, 0x1p-149},
      {"sqrt_f32", [](double x, double) { return std::sqrt(x); }, 0x1p-23},
      {"sine", [](double x, double) { return std::sin(x); }, 0x1p-22, 0x1p-149},
      {"cosine", [](double x, double) { return std::cos(x); }, 0x1p-22},
      {"fma_f32", [](double x, double y) { return std::fma(x, y, 1.); }, 0x1p-24, 0x1p-150},
      {"max_f32", [](double x, double y) { return std::fmax(x, y); }, 0},
      {"min_f32", [](double x, double y) { return std::fmin(x, y); }, 0},
      {"is_nan", [](double x, double) { return std::isnan(x) ? 1. : 0.; }, 0},
  };
  return list;
}

// What rounding to f32 makes of a result out of range.
bool agrees(double got, double exact, const Function& f) {
  if (std::isnan(exact)) return std::isnan(got);
  if (std::abs(exact) > std::numeric_limits<float>::max()) {
    return std::isinf(got) && std::signbit(got) == std::signbit(exact);
  }
  return std::abs(got - exact) <= f.relative_error * std::abs(exact) + f.absolute_error;
}

std::vector<double> interesting_numbers() {
  std::vector<double> values = {
      0.,       -0.,       1.,         -1.,      0.5,      -0.5,    2.,       10.,     -10.,
      88.5,     -88.5,     126.,       -126.,    127.999,  -130.,   -149.5,   -200.,   129.,
      0x1p-126, 0x1p-127,  -0x1p-130,  0x1p-149, 0x1p-140, 0x1p127, 1e30,     -1e30,   3.14159,
      100.25,   kInfinity, -kInfinity, kNan,     1e-6,     -1e-6,   0.999999, 1.000001};
  for (int i = 0; i < 200; ++i) values.push_back(std::sin(i * 12.9898) * std::exp2(i % 24 - 12));
  return values;
}

TEST_F(Math, FunctionsAndTheirSpecialValues) {
  std::vector<double> a, b;
  for (const double x : interesting_numbers()) {
    for (const double y : {x, 0.5, -2., kNan}) {
      a.push_back(static_cast<float>(x));
      b.push_back(static_cast<float>(y));
    }
  }
  const auto count = static_cast<int>(a.size());
  const TestTensor x = TestTensor::from(a, {count}, DType::f32);
  const TestTensor y = TestTensor::from(b, {count}, DType::f32);
  const TestTensor out =
      TestTensor::poisoned({static_cast<int>(functions().size()), count}, DType::f32);
  run_primitive(
      {.header = "math.cuh",
       .function = "functions",
       .params = {.a = x.view().data, .b = y.view().data, .out = out.view().data, .count = count},
       .threads = 128,
       .grid_x = (count + 127) / 128});
  const std::vector<double> got = out.values();
  std::size_t at = 0;
  for (const Function& f : functions()) {
    for (std::size_t i = 0; i < a.size(); ++i, ++at) {
      EXPECT_TRUE(agrees(got[at], f.exact(a[i], b[i]), f))
          << f.name << "(" << a[i] << ", " << b[i] << ") = " << got[at] << ", exactly "
          << f.exact(a[i], b[i]);
    }
  }
}

}  // namespace
}  // namespace quire::test
