// What speculative sampling shares between host and device.
#pragma once

#include "sampling/row_types.h"

namespace quire::kernels {

// Strides in elements; the last dimensions are contiguous.
struct ChainParams {
  const float* draft_probs;  // [batch, drafts, vocab]
  i64 draft_batch_stride, draft_row_stride;
  const float* target_probs;  // [batch, drafts + 1, vocab]
  i64 target_batch_stride, target_row_stride;
  const i32* draft_ids;  // [batch, drafts]
  i64 draft_ids_stride;
  i32* ids;  // [batch, drafts + 1]
  i64 ids_stride;
  i32* accepted;  // [batch] or null; added to
  i64 accepted_stride;
  i32* emitted;  // [batch] or null; added to
  i64 emitted_stride;
  i32 batch, drafts, vocab;
  i32 row_streams;  // 1: the request is part of the random counter (one seed for all)
  RowValue<i64> seed;
  RowValue<i64> offset;
};

// The random number for the draft token at `position`, or, at position `drafts`, for the token that
// is drawn.
constexpr u64 chain_random(const ChainParams& p, i64 request, i32 position) {
  const u64 stream = p.row_streams != 0 ? static_cast<u64>(request) << 32 : 0;
  return philox(static_cast<u64>(p.seed.at(request)), static_cast<u64>(p.offset.at(request)),
                stream + static_cast<u64>(position));
}

// Whether a draft token of probability `draft` is accepted: with probability min(1, target /
// draft).
constexpr bool accepts(u64 random, float draft, float target) {
  return static_cast<float>(random >> 40) * 0x1p-24f * draft < target;
}

struct ChainStep {
  i32 num_accepted;  // draft tokens before the first that is rejected
  i32 independent;   // those that would be accepted each by itself
};
constexpr ChainStep walk_chain(const ChainParams& p, i64 request) {
  ChainStep step{0, 0};
  bool goes_on = true;
  for (i32 i = 0; i < p.drafts; ++i) {
    const i32 id = p.draft_ids[request * p.draft_ids_stride + i];
    bool accepted = false;
    if (id >= 0 && id < p.vocab) {
      const i64 draft = request * p.draft_batch_stride + i * p.draft_row_stride + id;
      const i64 target = request * p.target_batch_stride + i * p.target_row_stride + id;
      accepted = accepts(chain_random(p, request, i), p.draft_probs[draft], p.target_probs[target]);
    }
    step.independent += accepted ? 1 : 0;
    goes_on = goes_on && accepted;
    step.num_accepted += goes_on ? 1 : 0;
  }
  return step;
}

// A draft tree a request: node 0 is the root, the last token that is already part of the text.
// Either parents, or the first child and the next sibling of every node; -1 for none.
struct TreeParams {
  const i32* draft_ids;  // [batch, nodes]; that of the root is not used
  i64 draft_ids_stride;
  const i32* sampled_ids;  // [batch, nodes]: a token drawn after each node
  i64 sampled_ids_stride;
  const i32* parents;  // [batch, nodes] or null
  i64 parents_stride;
  const i32* first_child;  // [batch, nodes] or null
  i64 first_child_stride;
  const i32* next_sibling;  // [batch, nodes] or null
  i64 next_sibling_stride;
  i32* ids;  // [batch, depth]
  i64 ids_stride;
  i32* path;  // [batch, depth] or null: the nodes after which ids are the tokens
  i64 path_stride;
  i32* accepted;  // [batch]
  i64 accepted_stride;
  i32 batch, nodes, depth;
};

// The child of `node` that has this token, or -1. Indices that are no nodes end the search, which
// looks at no more than `nodes` of them.
constexpr i32 find_child(const TreeParams& p, i64 request, i32 node, i32 token) {
  const i32* draft_ids = p.draft_ids + request * p.draft_ids_stride;
  if (p.parents != nullptr) {
    const i32* parents = p.parents + request * p.parents_stride;
    for (i32 i = 1; i < p.nodes; ++i) {
      if (parents[i] == node && draft_ids[i] == token) return i;
    }
    return -1;
  }
  i32 child = p.first_child[request * p.first_child_stride + node];
  for (i32 i = 0; i < p.nodes && child > 0 && child < p.nodes; ++i) {
    if (draft_ids[child] == token) return child;
    child = p.next_sibling[request * p.next_sibling_stride + child];
  }
  return -1;
}

// One request: from the root on, to the child that has the token which was drawn.
constexpr void walk_tree(const TreeParams& p, i64 request) {
  i32 node = 0, count = 0;
  while (node >= 0 && count < p.depth) {
    const i32 token = p.sampled_ids[request * p.sampled_ids_stride + node];
    p.ids[request * p.ids_stride + count] = token;
    if (p.path != nullptr) p.path[request * p.path_stride + count] = node;
    ++count;
    node = token < 0 ? -1 : find_child(p, request, node, token);
  }
  p.accepted[request * p.accepted_stride] = count - 1;
  for (; count < p.depth; ++count) {
    p.ids[request * p.ids_stride + count] = -1;
    if (p.path != nullptr) p.path[request * p.path_stride + count] = -1;
  }
}

struct TreeConfig {
  i32 threads = 128;
  bool operator==(const TreeConfig&) const = default;
};
template <class Visitor>
constexpr void visit_fields(const TreeConfig& c, Visitor&& visit) {
  visit("threads", c.threads);
}

}  // namespace quire::kernels
