// What plan_cascade() and runs of its plans refuse, and that they change nothing.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "support/cascade_case.h"
#include "support/expect_error.h"
#include "support/test_device.h"

namespace quire::test {
namespace {

// Requests that decode behind one prefix.
Cascade decode() {
  CascadeCase c{.base = {.name = "decode"}};
  c.levels = {{{4, 1}, {160, 0}}, {{1, 1, 1, 1, 1}, {7, 40, 1, 16, 33}}};
  return Cascade(c);
}

TEST(AttentionCascadeErrors, RunRefusesWhatDependsOnDistance) {
  const Cascade cascade = decode();
  BatchAttention attention(test_device());
  cascade.plan(attention);
  const TestTensor out = cascade.poisoned_out(), lse = cascade.poisoned_lse();
  const TestTensor slopes = TestTensor::random({4}, DType::f32, 1);
  const TestTensor mask = TestTensor::bytes({1}), mask_indptr = TestTensor::ints({0});
  const auto run = [&](auto&& change) {
    AttentionOptions options;
    change(options);
    cascade.run(attention, out, lse, options);
  };
  const std::string reason = "the rows of a group differ in their distance to its tokens";
  expect_errors({
      {[&] { run([](AttentionOptions& o) { o.window_left = 3; }); }, ErrorCode::not_implemented,
       "attention.run: window_left: got 3, expected none: " + reason},
      {[&] { run([&](AttentionOptions& o) { o.alibi_slopes = slopes; }); },
       ErrorCode::not_implemented,
       "attention.run: alibi_slopes: got a tensor with a cascade, expected none: " + reason},
      {[&] {
         run([&](AttentionOptions& o) { o.custom_mask = mask, o.mask_indptr = mask_indptr; });
       },
       ErrorCode::not_implemented,
       "attention.run: custom_mask: got a tensor with a cascade, expected none: it has bits for "
       "one level"},
  });
  for (const double x : out.values()) ASSERT_TRUE(std::isnan(x));
}

// Plans with two levels of four rows, of which `spoil` changes something.
void plan_spoiled(BatchAttention& attention,
                  const std::function<void(std::vector<LevelTable>&, AttentionPlanOptions&,
                                           AttentionShape&)>& spoil) {
  AttentionShape shape = AttentionCase{}.shape;
  AttentionPlanOptions options;
  std::vector<LevelTable> tables{{{0, 4}, {0, 2}, {5, 6}, {16}},
                                 {{0, 1, 4}, {0, 1, 2}, {1, 2}, {3, 4}}};
  spoil(tables, options, shape);
  std::vector<LevelArrays> arrays;
  std::vector<CascadeLevel> levels;
  for (const LevelTable& t : tables) {
    arrays.push_back({TestTensor::ints(t.qo_indptr, kCpu), TestTensor::ints(t.indptr, kCpu),
                      TestTensor::ints(t.indices, kCpu), TestTensor::ints(t.last_page_len, kCpu)});
  }
  for (const LevelArrays& level : arrays) levels.push_back(level.view());
  attention.plan_cascade(shape, levels, options);
}

TEST(AttentionCascadeErrors, PlanNamesWhatIsWrong) {
  using Tables = std::vector<LevelTable>;
  BatchAttention attention(test_device());
  const auto spoiled = [&](auto&& change) {
    return [&attention, change] {
      plan_spoiled(attention,
                   [&](Tables& t, AttentionPlanOptions& o, AttentionShape& s) { change(t, o, s); });
    };
  };
  using Options = AttentionPlanOptions;
  using S = AttentionShape;
  const std::string op = "attention.plan_cascade: ";
  const ErrorCode invalid = ErrorCode::invalid_argument, absent = ErrorCode::not_implemented;
  const std::string reason = "the rows of a group differ in their distance to its tokens";
  expect_errors({
      {spoiled([](Tables& t, Options&, S&) { t.clear(); }), invalid,
       op + "levels: got none, expected one or more"},
      {spoiled([](Tables& t, Options&, S&) { t[0].qo_indptr = {0, 3}; }), invalid,
       op + "qo_indptr: got 3 rows of level 0, 4 of level 1, expected the same number"},
      {spoiled([](Tables& t, Options&, S&) { t[0] = {{0, 2, 4}, {0, 1, 2}, {5, 6}, {16, 16}}; }),
       invalid,
       op + "qo_indptr: got 2 at [1] of level 0, expected entries of level 1: groups are of whole "
            "requests"},
      {spoiled([](Tables& t, Options&, S&) { t[1].last_page_len[1] = 17; }), invalid,
       "attention.plan: kv_last_page_len: got 17 at [1], expected 1 to 16, the page_size (level "
       "1)"},
      {spoiled([](Tables& t, Options&, S&) { t[0].indices[1] = -1; }), invalid,
       "attention.plan: kv_indices: got -1 at [1] (request 0), expected page ids of 0 or more "
       "(level 0)"},
      {spoiled([](Tables&, Options&, S& s) { s.page_size = 0; }), invalid,
       "attention.plan: page_size: got 0, expected 1 or more"},
      {spoiled([](Tables&, Options& o, S&) { o.window_left = 4; }), absent,
       op + "window_left: got 4, expected -1: " + reason},
      {spoiled([](Tables&, Options& o, S&) { o.batch_invariant = true; }), absent,
       op + "batch_invariant: got true, expected false: which tokens are shared depends on the "
            "batch"},
  });
  // A good one, to see that it is the change that is refused; and a page that the pool has not.
  plan_spoiled(attention, [](Tables& t, Options&, S&) { t[1].indices[1] = 9; });
  const Shape q_shape{4, 4, 64}, kv_shape{7, 16, 2, 64};
  const TestTensor q = TestTensor::random(q_shape, DType::bf16, 1);
  const TestTensor kv = TestTensor::random(kv_shape, DType::bf16, 2);
  const TestTensor out = TestTensor::poisoned(q_shape, DType::bf16);
  expect_error([&] { attention.run(q, {kv, kv, KvLayout::nhd}, out); }, invalid,
               "attention.run: kv_indices: got 9 at [3] (request 1 of level 1), expected page ids "
               "below 7, the num_pages of k");
}

TEST(AttentionCascadeErrors, NotAfterReserve) {
  const Cascade cascade = decode();
  BatchAttention attention(test_device());
  attention.reserve(AttentionCase{}.shape,
                    {.max_batch_size = 8, .max_total_q = 8, .max_kv_entries = 400});
  expect_error([&] { cascade.plan(attention); }, ErrorCode::not_implemented,
               "attention.plan_cascade: reservation: got one, expected none: it has no room for "
               "levels");
}

}  // namespace
}  // namespace quire::test
