"""Speculative sampling: keeps draft tokens so that the target's distribution is preserved."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from ._arrays import Array, arrays_of, export, export_output, per_row, stream_of
from ._library import library

_chain = library.chain_speculative_sampling
_tree = library.verify_tree


def chain_speculative_sampling(
    draft_probs: Array,
    draft_ids: Array,
    target_probs: Array,
    *,
    accepted: Optional[Array] = None,
    emitted: Optional[Array] = None,
    seed: Any = 0,
    offset: Any = 0,
    stream: Optional[int] = None,
) -> Array:
    """The draft tokens kept, one token more, then -1: i32 ``[batch, drafts + 1]``.

    draft_probs: f32 ``[batch, drafts, vocab]``, draft_ids: i32 ``[batch, drafts]``, target_probs:
    f32 ``[batch, drafts + 1, vocab]``. Token i is kept with probability min(1, target / draft);
    after the first that is not, a token is drawn from max(target - draft, 0), after none from the
    last row of target_probs. accepted, emitted: i32 ``[batch]``, to which the number of tokens that
    would be kept each by itself, and of those that are, is added. seed, offset: ints or i64
    ``[batch]``.
    """
    arrays = arrays_of(target_probs)
    ids = arrays.empty((draft_ids.shape[0], draft_ids.shape[1] + 1), "i32", target_probs)
    stream = stream_of(target_probs, stream)
    op = "chain_speculative_sampling"
    _chain(
        export(draft_probs),
        export(draft_ids),
        export(target_probs),
        export(ids),
        export_output(accepted, op, "accepted"),
        export_output(emitted, op, "emitted"),
        *per_row(seed, "i64", 0),
        *per_row(offset, "i64", 0),
        stream,
    )
    return arrays.finish(ids, stream)


def verify_tree(
    draft_ids: Array,
    sampled_ids: Array,
    depth: int,
    *,
    parents: Optional[Array] = None,
    first_child: Optional[Array] = None,
    next_sibling: Optional[Array] = None,
    stream: Optional[int] = None,
) -> Tuple[Array, Array, Array]:
    """(ids, path, accepted): follows, in each draft tree, the tokens drawn after its nodes.

    draft_ids, sampled_ids: i32 ``[batch, nodes]``: the tokens of the nodes (node 0 is the root, the
    last token of the text), and a token drawn after each of them from the target model. The tree:
    parents, or first_child and next_sibling (SGLang's retrieve_next_token, retrieve_next_sibling),
    all i32 ``[batch, nodes]`` with -1 for none. ids i32 ``[batch, depth]``: draft tokens kept, one
    token more, then -1; path: the nodes that they were drawn after, then -1; accepted i32
    ``[batch]``: draft tokens kept.
    """
    arrays = arrays_of(draft_ids)
    batch = draft_ids.shape[0]
    ids, path = (arrays.empty((batch, depth), "i32", draft_ids) for _ in range(2))
    accepted = arrays.empty((batch,), "i32", draft_ids)
    stream = stream_of(draft_ids, stream)
    tree = (export(parents), export(first_child), export(next_sibling))
    outputs = (export(ids), export(accepted), export(path))
    _tree(export(draft_ids), export(sampled_ids), *tree, *outputs, stream)
    return tuple(arrays.finish(x, stream) for x in (ids, path, accepted))
