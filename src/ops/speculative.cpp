#include "quire/speculative.h"

#include "core/backend.h"
#include "cpu/speculative.h"
#include "cuda/speculative.h"
#include "ops/sampling_arguments.h"
#include "speculative/speculative_types.h"

namespace quire {
namespace {

using check::Arg;
using kernels::i32;

void check_probs(const Arg& arg, const Arg& like, std::int64_t rows, std::int64_t vocab) {
  check::dtype(arg, {DType::f32});
  check::rank(arg, 3);
  check::dim(arg, 0, like.tensor.shape[0], "batch of draft_ids");
  check::dim(arg, 1, rows, "rows a request");
  check::dim(arg, 2, vocab, "vocabulary");
  check::last_dim_contiguous(arg);
  check::device(arg, like);
  check::memory(arg);
}

// i32 [batch, columns] with a contiguous last dimension.
template <class Integer>
Integer* matrix(const Arg& arg, const Arg& like, std::int64_t columns, kernels::i64& stride,
                bool is_output = false) {
  check::dtype(arg, {DType::i32});
  check::rank(arg, 2);
  check::dim(arg, 0, like.tensor.shape[0], "batch");
  check::dim(arg, 1, columns, "columns");
  check::last_dim_contiguous(arg);
  check::device(arg, like);
  check::memory(arg, is_output);
  stride = rows::step(arg.tensor, 0);
  return static_cast<Integer*>(arg.tensor.data);
}
template <class Integer>
Integer* matrix(std::string_view op, std::string_view name, const std::optional<TensorView>& tensor,
                const Arg& like, std::int64_t columns, kernels::i64& stride,
                bool is_output = false) {
  return tensor ? matrix<Integer>(Arg{op, name, *tensor}, like, columns, stride, is_output)
                : nullptr;
}

i32* counts(const Arg& arg, const Arg& like, kernels::i64& stride) {
  check::dtype(arg, {DType::i32});
  sampling::check_per_row(arg, like.tensor.shape[0], like, /*is_output=*/true);
  stride = rows::step(arg.tensor, 0);
  return static_cast<i32*>(arg.tensor.data);
}

}  // namespace

void chain_speculative_sampling(const TensorView& draft_probs, const TensorView& draft_ids,
                                const TensorView& target_probs, const ChainOutputs& outputs,
                                const PerRow<std::int64_t>& seed,
                                const PerRow<std::int64_t>& offset, Stream stream) {
  constexpr const char* kOp = "chain_speculative_sampling";
  const Arg ids{kOp, "draft_ids", draft_ids}, target{kOp, "target_probs", target_probs};
  kernels::ChainParams p{};
  check::rank(ids, 2);
  const std::int64_t drafts = draft_ids.shape[1];
  p.draft_ids = matrix<const i32>(ids, ids, drafts, p.draft_ids_stride);
  check::rank(target, 3);
  const std::int64_t vocab = target_probs.shape[2];
  if (vocab < 1 || vocab > kernels::kMaxVocab) {
    check::fail(kOp, "target_probs", "a vocabulary of " + std::to_string(vocab),
                "1 to " + std::to_string(kernels::kMaxVocab));
  }
  check_probs({kOp, "draft_probs", draft_probs}, ids, drafts, vocab);
  check_probs(target, ids, drafts + 1, vocab);
  p.draft_probs = static_cast<const float*>(draft_probs.data);
  p.draft_batch_stride = rows::step(draft_probs, 0);
  p.draft_row_stride = rows::step(draft_probs, 1);
  p.target_probs = static_cast<const float*>(target_probs.data);
  p.target_batch_stride = rows::step(target_probs, 0);
  p.target_row_stride = rows::step(target_probs, 1);
  p.ids = matrix<i32>(Arg{kOp, "ids", outputs.ids}, ids, drafts + 1, p.ids_stride, true);
  if (outputs.accepted) {
    p.accepted = counts({kOp, "accepted", *outputs.accepted}, ids, p.accepted_stride);
  }
  if (outputs.emitted) {
    p.emitted = counts({kOp, "emitted", *outputs.emitted}, ids, p.emitted_stride);
  }
  p.batch = rows::count(ids, draft_ids.shape[0], "requests");
  p.drafts = rows::count(ids, drafts, "draft tokens");
  p.vocab = static_cast<int>(vocab);
  p.seed = sampling::row_value("seed", seed, p.batch, ids);
  p.offset = sampling::row_value("offset", offset, p.batch, ids);
  p.row_streams = seed.tensor ? 0 : 1;
  if (p.batch == 0) return;
  dispatch(
      kOp, draft_ids.device, [&] { cpu::chain_speculative(p); },
      [&] { cuda::chain_speculative(p, draft_ids.device.index, stream); });
}

void verify_tree(const DraftTree& tree, const TensorView& sampled_ids, const TreeOutputs& outputs,
                 Stream stream) {
  constexpr const char* kOp = "verify_tree";
  const Arg ids{kOp, "draft_ids", tree.draft_ids};
  const Arg out{kOp, "ids", outputs.ids};
  kernels::TreeParams p{};
  check::rank(ids, 2);
  check::rank(out, 2);
  const std::int64_t nodes = tree.draft_ids.shape[1], depth = outputs.ids.shape[1];
  if (nodes < 1) check::fail(kOp, "draft_ids", "no nodes", "at least the root");
  if (depth < 1) check::fail(kOp, "ids", "no columns", "at least 1");
  p.draft_ids = matrix<const i32>(ids, ids, nodes, p.draft_ids_stride);
  p.sampled_ids =
      matrix<const i32>(Arg{kOp, "sampled_ids", sampled_ids}, ids, nodes, p.sampled_ids_stride);
  p.parents = matrix<const i32>(kOp, "parents", tree.parents, ids, nodes, p.parents_stride);
  p.first_child =
      matrix<const i32>(kOp, "first_child", tree.first_child, ids, nodes, p.first_child_stride);
  p.next_sibling =
      matrix<const i32>(kOp, "next_sibling", tree.next_sibling, ids, nodes, p.next_sibling_stride);
  const bool by_siblings = tree.first_child.has_value() && tree.next_sibling.has_value();
  const bool any_sibling = tree.first_child.has_value() || tree.next_sibling.has_value();
  if (tree.parents.has_value() == any_sibling || any_sibling != by_siblings) {
    check::fail(kOp, "parents",
                std::string(tree.parents ? "parents" : "no parents") + " and " +
                    (by_siblings   ? "both of first_child and next_sibling"
                     : any_sibling ? "one of first_child and next_sibling"
                                   : "none of first_child and next_sibling"),
                "either parents or both of first_child and next_sibling");
  }
  p.ids = matrix<i32>(out, ids, depth, p.ids_stride, true);
  p.path = matrix<i32>(kOp, "path", outputs.path, ids, depth, p.path_stride, true);
  p.accepted = counts({kOp, "accepted", outputs.accepted}, ids, p.accepted_stride);
  p.batch = rows::count(ids, tree.draft_ids.shape[0], "requests");
  p.nodes = rows::count(ids, nodes, "nodes");
  p.depth = rows::count(out, depth, "columns");
  if (p.batch == 0) return;
  dispatch(
      kOp, tree.draft_ids.device, [&] { cpu::verify_tree(p); },
      [&] { cuda::verify_tree(p, tree.draft_ids.device.index, stream); });
}

}  // namespace quire
