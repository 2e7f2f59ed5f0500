// Speculative sampling (Leviathan et al. 2023, Chen et al. 2023): keeps tokens of a draft so that
// the text is distributed as if the target model had drawn every token.
#pragma once

#include <cstdint>
#include <optional>

#include "quire/sampling.h"

namespace quire {

struct ChainOutputs {
  TensorView ids;  // i32 [batch, drafts + 1]: the draft tokens kept, one token more, then -1
  // i32 [batch], added to: draft tokens that would be accepted each by itself, and those kept.
  std::optional<TensorView> accepted, emitted;
};

// draft_probs f32 [batch, drafts, vocab], draft_ids i32 [batch, drafts], target_probs f32
// [batch, drafts + 1, vocab]; rows sum to one. Token i is accepted with probability
// min(1, target / draft), in steps of 2^-24; after the first rejection a token is drawn from
// max(target - draft, 0), after none from the last row of target_probs. Randomness as in
// sampling.h, a stream a token. A draft token outside the vocabulary is rejected; where the row to
// draw from is no distribution the token is -1.
void chain_speculative_sampling(const TensorView& draft_probs, const TensorView& draft_ids,
                                const TensorView& target_probs, const ChainOutputs& outputs,
                                const PerRow<std::int64_t>& seed = 0,
                                const PerRow<std::int64_t>& offset = 0, Stream stream = {});

// The trees of a batch, i32 [batch, nodes], node 0 being the root: the last token of the text.
// Either parents (that of the root is not used), or for each node its first child and its next
// sibling, -1 for none, as SGLang's retrieve_next_token and retrieve_next_sibling.
struct DraftTree {
  TensorView draft_ids;  // i32 [batch, nodes]
  std::optional<TensorView> parents;
  std::optional<TensorView> first_child, next_sibling;
};

struct TreeOutputs {
  TensorView ids;       // i32 [batch, depth]: draft tokens kept, one token more, then -1
  TensorView accepted;  // i32 [batch]: how many draft tokens are kept
  // i32 [batch, depth]: the nodes of the path from the root (0) on, then -1. ids[j] is the token
  // after path[j].
  std::optional<TensorView> path;
};

// sampled_ids i32 [batch, nodes]: a token drawn after each node from the target model, by any of
// the samplers (or argmax) over the rows of all nodes. Goes from the root to the child that has the
// token drawn, as long as there is one: every token is one that the target model has drawn, so that
// its distribution is kept whatever the tree. depth is at least the tree's height + 1, or the path
// ends early. Of children with the same token the first is taken.
void verify_tree(const DraftTree& tree, const TensorView& sampled_ids, const TreeOutputs& outputs,
                 Stream stream = {});

}  // namespace quire
