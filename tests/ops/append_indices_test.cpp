#include <gtest/gtest.h>

#include "quire/append.h"
#include "support/expect_error.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;
using Ints = std::vector<std::int32_t>;

Ints ints_of(const TestTensor& tensor) {
  const std::vector<double> values = tensor.values();
  return {values.begin(), values.end()};
}

TensorView every_other(const TestTensor& tensor) {
  TensorView view = tensor.view();
  view.shape[0] /= 2;
  view.strides[0] = 2;
  return view;
}

TEST(BatchIndicesPositions, AlignedToTheEnd) {
  // Requests append 3, 0, 1 and 0 tokens; two entries of the outputs are left over.
  const TestTensor append_indptr = TestTensor::ints({0, 3, 3, 4, 4});
  const TestTensor seq_lens = TestTensor::ints({3, 9, 8, 0});
  const TestTensor batch_indices = TestTensor::poisoned({6}, DType::i32);
  const TestTensor positions = TestTensor::poisoned({6}, DType::i32);
  get_batch_indices_positions(append_indptr, seq_lens, batch_indices, positions);
  EXPECT_EQ(ints_of(batch_indices), (Ints{0, 0, 0, 2, -1, -1}));
  EXPECT_EQ(ints_of(positions), (Ints{0, 1, 2, 7, 0, 0}));
  EXPECT_TRUE(batch_indices.guards_intact() && positions.guards_intact());
}

TEST(BatchIndicesPositions, FollowsTheFormula) {
  const int batch = test::is_emulated() ? 37 : 1037;
  Ints append_indptr = {0}, seq_lens, requests, expected;
  for (int b = 0; b < batch; ++b) {
    const int added = b * 7 % 5, cached = b * 13 % 100;
    append_indptr.push_back(append_indptr.back() + added);
    seq_lens.push_back(cached + added);
    for (int i = 0; i < added; ++i) {
      requests.push_back(b);
      expected.push_back(cached + i);
    }
  }
  const auto nnz = static_cast<std::int64_t>(requests.size());
  const TestTensor batch_indices = TestTensor::poisoned({nnz}, DType::i32);
  const TestTensor positions = TestTensor::poisoned({nnz}, DType::i32);
  get_batch_indices_positions(TestTensor::ints(append_indptr), TestTensor::ints(seq_lens),
                              batch_indices, positions);
  EXPECT_EQ(ints_of(batch_indices), requests);
  EXPECT_EQ(ints_of(positions), expected);
}

TEST(BatchIndicesPositions, StridedAndEmpty) {
  const TestTensor indptr = TestTensor::ints({0, -9, 2, -9}), lens = TestTensor::ints({5, -9});
  const TestTensor batch_indices = TestTensor::from({7, 7, 7, 7}, {4}, DType::i32);
  const TestTensor positions = TestTensor::from({7, 7, 7, 7}, {4}, DType::i32);
  get_batch_indices_positions(every_other(indptr), every_other(lens), every_other(batch_indices),
                              every_other(positions));
  EXPECT_EQ(ints_of(batch_indices), (Ints{0, 7, 0, 7}));
  EXPECT_EQ(ints_of(positions), (Ints{3, 7, 4, 7}));

  const TestTensor none = TestTensor::ints(Ints{}), zero = TestTensor::ints({0});
  get_batch_indices_positions(zero, none, none, none);
  const TestTensor padding = TestTensor::ints({5, 5}), padding_positions = TestTensor::ints({5, 5});
  get_batch_indices_positions(zero, none, padding, padding_positions);
  EXPECT_EQ(ints_of(padding), (Ints{-1, -1}));
  EXPECT_EQ(ints_of(padding_positions), (Ints{0, 0}));
}

TEST(BatchIndicesPositions, BadInput) {
  const TestTensor indptr = TestTensor::ints({0, 2, 4}), lens = TestTensor::ints({2, 9});
  const TestTensor requests = TestTensor::poisoned({4}, DType::i32);
  const TestTensor positions = TestTensor::poisoned({4}, DType::i32);
  const TestTensor i64_lens = TestTensor::from({2, 9}, {2}, DType::i64);
  const TestTensor none = TestTensor::ints(Ints{});
  const std::vector<std::uint8_t> clean = requests.raw();
  TensorView repeated = requests.view();
  repeated.strides = {0};
  TensorView elsewhere = lens.view();
  elsewhere.device = test::other_device();
  const std::string here = to_string(test::test_device());
  const std::string there = to_string(test::other_device());
  const auto call = [&](const TensorView& i, const TensorView& l, const TensorView& r,
                        const TensorView& p) {
    return [=] { get_batch_indices_positions(i, l, r, p); };
  };
  using enum ErrorCode;
  const std::string op = "get_batch_indices_positions: ";
  std::vector<test::BadCall> calls = {
      {call(none, none, requests, positions), invalid_argument,
       op + "append_indptr: got 0 entries, expected batch + 1 entries"},
      {call(indptr, lens.view().slice(0, 0, 1), requests, positions), invalid_argument,
       op + "seq_lens: got 1 in dimension 0 (shape [1]), expected 2 (batch of append_indptr)"},
      {call(indptr, i64_lens, requests, positions), wrong_type,
       op + "seq_lens: got i64, expected i32"},
      {call(indptr, elsewhere, requests, positions), invalid_argument,
       op + "seq_lens: got " + there + ", expected " + here + ", the device of append_indptr"},
      {call(indptr, lens, requests, positions.view().slice(0, 0, 3)), invalid_argument,
       op + "positions: got shape [3], expected [4], the shape of batch_indices"},
      {call(indptr, lens, repeated, positions), invalid_argument,
       op +
           "batch_indices: got strides [0] for shape [4], expected an output whose elements do not "
           "overlap"},
  };
  const TestTensor late = TestTensor::ints({1, 2, 4}), falling = TestTensor::ints({0, 3, 2});
  const TestTensor many = TestTensor::ints({0, 2, 5}), brief = TestTensor::ints({2, 1});
  if (test::test_device().is_cpu()) {
    calls.push_back({call(late, lens, requests, positions), invalid_argument,
                     op + "append_indptr: got 1 at 0, expected 0"});
    calls.push_back({call(falling, lens, requests, positions), invalid_argument,
                     op + "append_indptr: got 2 at 2, expected 3 or more, the entry before it"});
    calls.push_back({call(many, lens, requests, positions), invalid_argument,
                     op + "append_indptr: got 5 at 2, expected at most 4, the size of "
                          "batch_indices"});
    calls.push_back({call(indptr, brief, requests, positions), invalid_argument,
                     op + "seq_lens: got 1 at 1, expected 2 or more, the tokens appended to it"});
  }
  test::expect_errors(calls);
  EXPECT_EQ(requests.raw(), clean);
  EXPECT_EQ(positions.raw(), clean);
}

TEST(SeqLens, CountsWholePagesAndTheLast) {
  const TestTensor indptr = TestTensor::ints({0, 1, 1, 4});
  const TestTensor last_page_len = TestTensor::ints({7, 99, 16});
  const TestTensor seq_lens = TestTensor::poisoned({3}, DType::i32);
  get_seq_lens(indptr, last_page_len, 16, seq_lens);
  EXPECT_EQ(ints_of(seq_lens), (Ints{7, 0, 48}));
  EXPECT_TRUE(seq_lens.guards_intact());
  get_seq_lens(TestTensor::ints({0}), TestTensor::ints(Ints{}), 16, TestTensor::ints(Ints{}));
}

TEST(SeqLens, BadInput) {
  const TestTensor indptr = TestTensor::ints({0, 1, 3}), last = TestTensor::ints({4, 2});
  const TestTensor lens = TestTensor::poisoned({2}, DType::i32);
  const std::vector<std::uint8_t> clean = lens.raw();
  const TestTensor f32_last = TestTensor::from({4, 2}, {2}, DType::f32);
  const TestTensor long_last = TestTensor::ints({4, 17});
  using enum ErrorCode;
  std::vector<test::BadCall> calls = {
      {[&] { get_seq_lens(indptr, f32_last, 16, lens); }, wrong_type,
       "get_seq_lens: kv_last_page_len: got f32, expected i32"},
      {[&] { get_seq_lens(indptr, last, 0, lens); }, invalid_argument,
       "get_seq_lens: page_size: got 0, expected 1 or more"},
      {[&] { get_seq_lens(indptr, last, 16, lens.view().slice(0, 0, 1)); }, invalid_argument,
       "get_seq_lens: seq_lens: got 1 in dimension 0 (shape [1]), expected 2 (batch of kv_indptr)"},
  };
  if (test::test_device().is_cpu()) {
    calls.push_back({[&] { get_seq_lens(indptr, long_last, 16, lens); }, invalid_argument,
                     "get_seq_lens: kv_last_page_len: got 17 at 1, expected 1 to page_size (16)"});
  }
  test::expect_errors(calls);
  EXPECT_EQ(lens.raw(), clean);
}

}  // namespace
}  // namespace quire
