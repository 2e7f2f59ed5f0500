// Speculative sampling: the target's distribution, whatever the draft.
#include "quire/speculative.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>

#include "support/expect_error.h"
#include "support/reference_sampling.h"
#include "support/test_device.h"
#include "support/test_tensor.h"

namespace quire {
namespace {

using test::TestTensor;

std::vector<double> random_distribution(int vocab, std::mt19937_64& engine) {
  std::normal_distribution<double> normal;
  std::vector<double> row(static_cast<std::size_t>(vocab));
  double total = 0;
  for (double& x : row) total += x = std::exp(normal(engine));
  for (double& x : row) x = static_cast<float>(x / total);
  return row;
}

struct Chain {
  int batch, drafts, vocab;
  std::vector<double> draft, target, ids;
};

// Draft tokens are drawn from the draft distributions with `engine`.
Chain random_chain(int batch, int drafts, int vocab, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  Chain chain{batch, drafts, vocab, {}, {}, {}};
  for (int b = 0; b < batch; ++b) {
    for (int i = 0; i <= drafts; ++i) {
      const auto target = random_distribution(vocab, engine);
      chain.target.insert(chain.target.end(), target.begin(), target.end());
      if (i == drafts) continue;
      const auto draft = random_distribution(vocab, engine);
      chain.draft.insert(chain.draft.end(), draft.begin(), draft.end());
      std::discrete_distribution<int> drawn(draft.begin(), draft.end());
      chain.ids.push_back(drawn(engine));
    }
  }
  return chain;
}

// What the definition gives for one request.
std::vector<double> reference_chain(const Chain& c, int b, std::uint64_t seed, std::uint64_t offset,
                                    std::uint64_t stream, double& accepted, double& emitted) {
  std::vector<double> out(static_cast<std::size_t>(c.drafts + 1), -1);
  const auto random = [&](int i) {
    return test::reference_philox(seed, offset, stream + static_cast<unsigned>(i));
  };
  bool goes_on = true;
  int position = 0;
  for (int i = 0; i < c.drafts; ++i) {
    const auto id = static_cast<std::size_t>(c.ids[b * c.drafts + i]);
    const double p = c.draft[(b * c.drafts + i) * c.vocab + id];
    const double q = c.target[(b * (c.drafts + 1) + i) * c.vocab + id];
    const double u = static_cast<double>(random(i) >> 40) * 0x1p-24;
    const bool accepts = static_cast<float>(u * p) < q;
    accepted += accepts ? 1 : 0;
    goes_on = goes_on && accepts;
    if (goes_on) out[position++] = static_cast<double>(id);
  }
  emitted += position;
  std::vector<float> row;
  for (int v = 0; v < c.vocab; ++v) {
    const double q = c.target[(b * (c.drafts + 1) + position) * c.vocab + v];
    const double p = position < c.drafts ? c.draft[(b * c.drafts + position) * c.vocab + v] : 0;
    row.push_back(static_cast<float>(std::max(0.0, q - p)));
  }
  out[position] = test::reference_token(row, {}, random(c.drafts));
  return out;
}

void check_chain(int batch, int drafts, int vocab, bool own_seeds) {
  SCOPED_TRACE(std::to_string(drafts) + " drafts, vocab " + std::to_string(vocab));
  const Chain chain = random_chain(batch, drafts, vocab, static_cast<unsigned>(vocab));
  const auto draft = TestTensor::from(chain.draft, {batch, drafts, vocab}, DType::f32);
  const auto target = TestTensor::from(chain.target, {batch, drafts + 1, vocab}, DType::f32);
  const auto draft_ids = TestTensor::from(chain.ids, {batch, drafts}, DType::i32);
  const auto ids = TestTensor::poisoned({batch, drafts + 1}, DType::i32);
  const auto accepted = TestTensor::from(std::vector<double>(batch, 10), {batch}, DType::i32);
  const auto emitted = TestTensor::from(std::vector<double>(batch, 20), {batch}, DType::i32);
  std::vector<double> seeds;
  for (int b = 0; b < batch; ++b) seeds.push_back(own_seeds ? 7 + 3 * b : 7);
  const auto seed = TestTensor::from(seeds, {batch}, DType::i64);
  chain_speculative_sampling(draft, draft_ids, target, {ids, accepted.view(), emitted.view()},
                             own_seeds ? PerRow<std::int64_t>(seed.view()) : 7, 5);
  synchronize(test::test_device());
  std::vector<double> expected, expected_accepted, expected_emitted;
  for (int b = 0; b < batch; ++b) {
    double num_accepted = 10, num_emitted = 20;
    const std::uint64_t stream = own_seeds ? 0 : static_cast<std::uint64_t>(b) << 32;
    const auto row = reference_chain(chain, b, static_cast<std::uint64_t>(seeds[b]), 5, stream,
                                     num_accepted, num_emitted);
    expected.insert(expected.end(), row.begin(), row.end());
    expected_accepted.push_back(num_accepted);
    expected_emitted.push_back(num_emitted);
  }
  EXPECT_EQ(ids.values(), expected);
  EXPECT_EQ(accepted.values(), expected_accepted);
  EXPECT_EQ(emitted.values(), expected_emitted);
  EXPECT_TRUE(ids.guards_intact());
}

TEST(ChainSpeculativeSampling, TokensOfTheDefinition) {
  const int batch = test::is_emulated() ? 4 : 64;
  for (const bool own_seeds : {false, true}) {
    check_chain(batch, 1, 5, own_seeds);
    check_chain(batch, 4, 32, own_seeds);
    check_chain(batch, 7, 33, own_seeds);
  }
  check_chain(batch, 0, 16, false);
  check_chain(2, 3, test::is_emulated() ? 16400 : 128256, false);
}

// Pearson's statistic of the first two tokens against the target's distribution. With 63 degrees of
// freedom 130 is exceeded by chance once in 500,000; the seed is fixed.
TEST(ChainSpeculativeSampling, KeepsTheDistributionOfTheTarget) {
  const int vocab = 8, batch = test::is_emulated() ? 200 : 100000;
  std::mt19937_64 engine(11);
  // The second token's distributions hang on the first one.
  std::vector<std::vector<double>> first, second_draft, second_target;
  for (int i = 0; i < 2; ++i) first.push_back(random_distribution(vocab, engine));
  for (int i = 0; i < vocab; ++i) {
    second_draft.push_back(random_distribution(vocab, engine));
    second_target.push_back(random_distribution(vocab, engine));
  }
  const auto draw = [&](const std::vector<double>& row) {
    return std::discrete_distribution<int>(row.begin(), row.end())(engine);
  };
  std::vector<double> draft, target, draft_ids;
  const auto append = [](std::vector<double>& to, const std::vector<double>& row) {
    to.insert(to.end(), row.begin(), row.end());
  };
  for (int b = 0; b < batch; ++b) {
    const int a = draw(first[0]);
    const int second = draw(second_draft[a]);
    draft_ids.insert(draft_ids.end(), {static_cast<double>(a), static_cast<double>(second)});
    append(draft, first[0]);
    append(draft, second_draft[a]);
    append(target, first[1]);
    append(target, second_target[a]);
    append(target, first[1]);
  }
  const auto ids = TestTensor::poisoned({batch, 3}, DType::i32);
  chain_speculative_sampling(TestTensor::from(draft, {batch, 2, vocab}, DType::f32),
                             TestTensor::from(draft_ids, {batch, 2}, DType::i32),
                             TestTensor::from(target, {batch, 3, vocab}, DType::f32), {ids, {}, {}},
                             99);
  synchronize(test::test_device());
  const std::vector<double> got = ids.values();
  std::map<std::pair<int, int>, double> counts;
  for (int b = 0; b < batch; ++b) {
    const int a = static_cast<int>(got[3 * b]);
    // Where only one token came, the target draws the next.
    const int second =
        got[3 * b + 1] >= 0 ? static_cast<int>(got[3 * b + 1]) : draw(second_target[a]);
    ++counts[{a, second}];
  }
  double statistic = 0;
  for (int a = 0; a < vocab; ++a) {
    for (int second = 0; second < vocab; ++second) {
      const double expected = batch * first[1][a] * second_target[a][second];
      const double difference = counts[{a, second}] - expected;
      statistic += difference * difference / expected;
    }
  }
  EXPECT_LT(statistic, 130);
}

TEST(ChainSpeculativeSampling, SpecialRows) {
  const double nan = std::nan("");
  // The same distributions: everything is accepted. A token that is none: rejected. NaN: no token.
  const auto draft = TestTensor::from({0.5, 0.5, 0.25, 0.75, 0.5, 0.5}, {3, 1, 2}, DType::f32);
  const auto target =
      TestTensor::from({0.5, 0.5, 1, 0, 0.25, 0.75, 1, 0, nan, nan, 1, 0}, {3, 2, 2}, DType::f32);
  const auto draft_ids = TestTensor::from({1, 7, 0}, {3, 1}, DType::i32);
  const auto ids = TestTensor::poisoned({3, 2}, DType::i32);
  chain_speculative_sampling(draft, draft_ids, target, {ids, {}, {}});
  synchronize(test::test_device());
  const std::vector<double> got = ids.values();
  EXPECT_EQ(got[0], 1);
  EXPECT_EQ(got[1], 0);
  EXPECT_TRUE(got[2] == 0 || got[2] == 1) << got[2];
  EXPECT_EQ(got[3], -1);
  EXPECT_EQ(got[4], -1);
  EXPECT_EQ(got[5], -1);
}

struct Tree {
  TestTensor ids = TestTensor::from({9, 1, 2, 3, 1, 4,  //
                                     9, 5, 5, 6, 7, 8},
                                    {2, 6}, DType::i32);
  // Root: 1, 2. Node 1: 3, 4. Node 2: 5.      Root: 1, 2, 5. Node 1: 3. Node 2: 4.
  TestTensor parents = TestTensor::from({-1, 0, 0, 1, 1, 2,  //
                                         -1, 0, 0, 1, 2, 0},
                                        {2, 6}, DType::i32);
  TestTensor first_child = TestTensor::from({1, 3, 5, -1, -1, -1,  //
                                             1, 3, 4, -1, -1, -1},
                                            {2, 6}, DType::i32);
  TestTensor next_sibling = TestTensor::from({-1, 2, -1, 4, -1, -1,  //
                                              -1, 2, 5, -1, -1, -1},
                                             {2, 6}, DType::i32);
};

TEST(VerifyTree, FollowsTheTokensDrawn) {
  const Tree tree;
  const auto drawn = TestTensor::from({1, 1, 0, 0, 77, 0,  //
                                       8, 0, 0, 0, 0, -1},
                                      {2, 6}, DType::i32);
  for (const bool by_parents : {true, false}) {
    const auto ids = TestTensor::poisoned({2, 4}, DType::i32);
    const auto path = TestTensor::poisoned({2, 4}, DType::i32);
    const auto accepted = TestTensor::poisoned({2}, DType::i32);
    DraftTree given{.draft_ids = tree.ids};
    if (by_parents) {
      given.parents = tree.parents.view();
    } else {
      given.first_child = tree.first_child.view();
      given.next_sibling = tree.next_sibling.view();
    }
    verify_tree(given, drawn, {ids, accepted, path.view()});
    synchronize(test::test_device());
    // Root draws 1: node 1, which draws 1: node 4, which draws 77: nobody.
    EXPECT_EQ(ids.values(), (std::vector<double>{1, 1, 77, -1, 8, -1, -1, -1}));
    EXPECT_EQ(path.values(), (std::vector<double>{0, 1, 4, -1, 0, 5, -1, -1}));
    EXPECT_EQ(accepted.values(), (std::vector<double>{2, 1}));
    EXPECT_TRUE(ids.guards_intact() && path.guards_intact() && accepted.guards_intact());
  }
}

TEST(VerifyTree, DamagedTreesEnd) {
  const auto draft_ids = TestTensor::from({0, 1, 2, 0, 1, 2}, {2, 3}, DType::i32);
  const auto first_child = TestTensor::from({1, 99, 0, 2, 0, -7}, {2, 3}, DType::i32);
  const auto next_sibling = TestTensor::from({-1, 1, -1, 0, 0, 2}, {2, 3}, DType::i32);
  const auto drawn = TestTensor::from({1, 1, 1, 2, 5, 5}, {2, 3}, DType::i32);
  const auto ids = TestTensor::poisoned({2, 2}, DType::i32);
  const auto accepted = TestTensor::poisoned({2}, DType::i32);
  verify_tree({.draft_ids = draft_ids,
               .first_child = first_child.view(),
               .next_sibling = next_sibling.view()},
              drawn, {ids, accepted, {}});
  synchronize(test::test_device());
  EXPECT_EQ(ids.values(), (std::vector<double>{1, 1, 2, 5}));
  EXPECT_EQ(accepted.values(), (std::vector<double>{1, 1}));
}

// A tree of two levels with random children: the pair of tokens has the target's distribution.
TEST(VerifyTree, KeepsTheDistributionOfTheTarget) {
  const int vocab = 4, batch = test::is_emulated() ? 100 : 50000, nodes = 4;
  std::mt19937_64 engine(3);
  const auto first = random_distribution(vocab, engine);
  std::vector<std::vector<double>> second;
  for (int i = 0; i < vocab; ++i) second.push_back(random_distribution(vocab, engine));
  std::vector<double> draft_ids, parents, probs;
  for (int b = 0; b < batch; ++b) {
    const int a = static_cast<int>(engine() % vocab), other = (a + 1) % vocab;
    draft_ids.insert(draft_ids.end(), {0, double(a), double(other), double(engine() % vocab)});
    parents.insert(parents.end(), {-1, 0, 0, 1});
    probs.insert(probs.end(), first.begin(), first.end());
    for (const int token : {a, other, 0}) {
      probs.insert(probs.end(), second[token].begin(), second[token].end());
    }
  }
  const auto ids = TestTensor::from(draft_ids, {batch, nodes}, DType::i32);
  const auto drawn = TestTensor::poisoned({batch * nodes}, DType::i32);
  SamplingOptions options;
  options.seed = 31;
  sample(TestTensor::from(probs, {batch * nodes, vocab}, DType::f32), drawn, options);
  synchronize(test::test_device());
  const auto sampled = TestTensor::from(drawn.values(), {batch, nodes}, DType::i32);
  const auto parent = TestTensor::from(parents, {batch, nodes}, DType::i32);
  const auto out = TestTensor::poisoned({batch, 3}, DType::i32);
  const auto accepted = TestTensor::poisoned({batch}, DType::i32);
  verify_tree({.draft_ids = ids, .parents = parent.view()}, sampled, {out, accepted, {}});
  synchronize(test::test_device());
  std::map<std::pair<int, int>, double> counts;
  const std::vector<double> got = out.values();
  for (int b = 0; b < batch; ++b) {
    const int a = static_cast<int>(got[3 * b]);
    int next = static_cast<int>(got[3 * b + 1]);
    if (next < 0) {
      next = std::discrete_distribution<int>(second[a].begin(), second[a].end())(engine);
    }
    ++counts[{a, next}];
  }
  double statistic = 0;  // 15 degrees of freedom: 55 is exceeded once in 500,000
  for (int a = 0; a < vocab; ++a) {
    for (int next = 0; next < vocab; ++next) {
      const double expected = batch * first[a] * second[a][next];
      const double difference = counts[{a, next}] - expected;
      statistic += difference * difference / expected;
    }
  }
  EXPECT_LT(statistic, 55);
}

TEST(Speculative, BadInputIsNamed) {
  const auto draft = TestTensor::poisoned({2, 3, 5}, DType::f32);
  const auto target = TestTensor::poisoned({2, 4, 5}, DType::f32);
  const auto draft_ids = TestTensor::poisoned({2, 3}, DType::i32);
  const auto ids = TestTensor::poisoned({2, 4}, DType::i32);
  const auto accepted = TestTensor::poisoned({2}, DType::i32);
  test::expect_errors({
      {[&] { chain_speculative_sampling(draft, draft_ids, draft, {ids, {}, {}}); },
       ErrorCode::invalid_argument,
       "chain_speculative_sampling: target_probs: got 3 in dimension 1 (shape [2, 3, 5]), expected "
       "4 (rows a request)"},
      {[&] { chain_speculative_sampling(draft, draft, target, {ids, {}, {}}); },
       ErrorCode::invalid_argument,
       "chain_speculative_sampling: draft_ids: got rank 3 (shape [2, 3, 5]), expected rank 2"},
      {[&] { chain_speculative_sampling(draft, draft_ids, target, {draft_ids, {}, {}}); },
       ErrorCode::invalid_argument,
       "chain_speculative_sampling: ids: got 3 in dimension 1 (shape [2, 3]), expected 4 "
       "(columns)"},
      {[&] { verify_tree({.draft_ids = draft_ids}, draft_ids, {ids, accepted, {}}); },
       ErrorCode::invalid_argument,
       "verify_tree: parents: got no parents and none of first_child and next_sibling, expected "
       "either parents or both of first_child and next_sibling"},
      {[&] {
         verify_tree({.draft_ids = draft_ids, .parents = draft_ids.view()}, ids,
                     {ids, accepted, {}});
       },
       ErrorCode::invalid_argument,
       "verify_tree: sampled_ids: got 4 in dimension 1 (shape [2, 4]), expected 3 (columns)"},
  });
  EXPECT_EQ(ids.values(), std::vector<double>(8, -1));
}

}  // namespace
}  // namespace quire
