// Bad arguments of the samplers: named, with nothing written.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "quire/sampling.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;

TEST(Sampling, BadInputIsNamed) {
  const auto probs = TestTensor::from(std::vector<double>(12, 1), {3, 4}, DType::f32);
  const auto ids = TestTensor::poisoned({3}, DType::i32);
  const auto f16 = TestTensor::from(std::vector<double>(12, 1), {3, 4}, DType::f16);
  const auto two = TestTensor::ints({0, 1});
  TensorView strided = probs;
  strided.strides[1] = 2;
  TensorView broadcast = ids;
  broadcast.strides[0] = 0;
  TensorView elsewhere = ids;
  elsewhere.device = test::other_device();
  const std::string here = to_string(test::test_device()), there = to_string(elsewhere.device);
  const auto with = [](auto member, const TensorView& tensor) {
    SamplingOptions options;
    options.*member = tensor;
    return options;
  };
  const float nan = std::nanf("");
  test::expect_errors({
      {[&] { sample(ids, ids); }, ErrorCode::wrong_type, "sample: probs: got i32, expected f32"},
      {[&] { top_k_sample(f16, ids, 1); }, ErrorCode::wrong_type,
       "top_k_sample: probs: got f16, expected f32"},
      {[&] { sample(TestTensor::poisoned({4}, DType::f32), ids); }, ErrorCode::invalid_argument,
       "sample: probs: got rank 1 (shape [4]), expected rank 2"},
      {[&] { sample(strided, ids); }, ErrorCode::invalid_argument,
       "sample: probs: got strides [4, 2], expected stride 1 in the last dimension"},
      {[&] { sample(TestTensor::poisoned({3, 0}, DType::f32), ids); }, ErrorCode::invalid_argument,
       "sample: probs: got a vocabulary of 0, expected 1 to 8388608"},
      {[&] { sample(probs, probs); }, ErrorCode::wrong_type, "sample: ids: got f32, expected i32"},
      {[&] { sample(probs, two); }, ErrorCode::invalid_argument,
       "sample: ids: got 2 in dimension 0 (shape [2]), expected 3 (one element a row)"},
      {[&] { sample(probs, elsewhere); }, ErrorCode::invalid_argument,
       "sample: ids: got " + there + ", expected " + here + ", the device of probs"},
      {[&] { sample(probs, ids, with(&SamplingOptions::indices, two)); },
       ErrorCode::invalid_argument,
       "sample: ids: got 3 in dimension 0 (shape [3]), expected 2 (one element a row)"},
      {[&] { sample(probs, ids, with(&SamplingOptions::indices, probs)); }, ErrorCode::wrong_type,
       "sample: indices: got f32, expected i32"},
      {[&] { sample(probs, ids, with(&SamplingOptions::valid, ids)); }, ErrorCode::wrong_type,
       "sample: valid: got i32, expected boolean or u8"},
      {[&] { sample(probs, ids, with(&SamplingOptions::seed, ids)); }, ErrorCode::wrong_type,
       "sample: seed: got i32, expected i64"},
      {[&] {
         sample(probs, ids, with(&SamplingOptions::offset, TestTensor::poisoned({1}, DType::i64)));
       },
       ErrorCode::invalid_argument,
       "sample: offset: got 1 in dimension 0 (shape [1]), expected 3 (one element a row)"},
      {[&] { top_k_sample(probs, ids, two.view()); }, ErrorCode::invalid_argument,
       "top_k_sample: top_k: got 2 in dimension 0 (shape [2]), expected 3 (one element a row)"},
      {[&] { top_p_sample(probs, ids, ids.view()); }, ErrorCode::wrong_type,
       "top_p_sample: top_p: got i32, expected f32"},
      {[&] { top_p_sample(probs, ids, 1.5f); }, ErrorCode::invalid_argument,
       "top_p_sample: top_p: got 1.5, expected a number from 0 to 1"},
      {[&] { min_p_sample(probs, ids, -0.5f); }, ErrorCode::invalid_argument,
       "min_p_sample: min_p: got -0.5, expected a number from 0 to 1"},
      {[&] { top_k_top_p_sample(probs, ids, 2, nan); }, ErrorCode::invalid_argument,
       "top_k_top_p_sample: top_p: got nan, expected a number from 0 to 1"},
  });
  EXPECT_EQ(ids.values(), std::vector<double>(3, -1));
  EXPECT_TRUE(ids.guards_intact());

  EXPECT_THROW(sample(probs, broadcast), Error);
}

TEST(Sampling, IndicesOutOfRange) {
  const auto probs = TestTensor::from({1, 0, 0, 1}, {2, 2}, DType::f32);
  const auto indices = TestTensor::ints({1, 2, 0, -1});
  const auto ids = TestTensor::from({7, 7, 7, 7}, {4}, DType::i32);
  const auto valid = TestTensor::from({7, 7, 7, 7}, {4}, DType::u8);
  SamplingOptions options;
  options.indices = indices.view();
  options.valid = valid.view();
  if (test::test_device().is_cpu()) {
    test::expect_errors({{[&] { sample(probs, ids, options); }, ErrorCode::invalid_argument,
                          "sample: indices: got 2 in element 1, expected 0 to 1, a row of probs"}});
    EXPECT_EQ(ids.values(), std::vector<double>(4, 7));
    EXPECT_EQ(valid.values(), std::vector<double>(4, 7));
    return;
  }
  sample(probs, ids, options);
  synchronize(test::test_device());
  EXPECT_EQ(ids.values(), (std::vector<double>{1, -1, 0, -1}));
  EXPECT_EQ(valid.values(), (std::vector<double>{1, 0, 1, 0}));
}

}  // namespace
}  // namespace quire
