"""FlashInfer's ``flashinfer.cascade``: attention behind shared prefixes, and merging attention
states. Logarithms are to base 2."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from .. import merge as _merge
from .._arrays import Array, arrays_of
from . import _options
from ._kv_cache import split_paged_kv_cache
from ._plan_arguments import resolve_dtypes
from ._wrapper import AttentionWrapper


class MultiLevelCascadeAttentionWrapper(AttentionWrapper):
    """Attention of requests that share prefixes, at several levels: plan() once a step, run() once
    a layer. All levels are one launch of the attention kernel and one that merges.

    Arrays of levels are in the order of the tokens: the first level has what most requests share,
    the last what is a request's own. use_cuda_graph: NotImplementedError; the buffers that go with
    it have no effect without it.
    """

    def __init__(
        self,
        num_levels: int,
        float_workspace_buffer: Array,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        qo_indptr_buf_arr: Optional[List[Array]] = None,
        paged_kv_indptr_buf_arr: Optional[List[Array]] = None,
        paged_kv_indices_buf_arr: Optional[List[Array]] = None,
        paged_kv_last_page_len_buf_arr: Optional[List[Array]] = None,
    ) -> None:
        super().__init__(float_workspace_buffer, kv_layout, "auto", use_cuda_graph=False)
        if use_cuda_graph:
            raise _options.not_implemented(self._op, "use_cuda_graph", True)
        if num_levels < 1:
            raise ValueError(f"{self._op}: num_levels: got {num_levels}, expected >= 1")
        self._num_levels = num_levels

    def plan(
        self,
        qo_indptr_arr: List[Array],
        paged_kv_indptr_arr: List[Array],
        paged_kv_indices_arr: List[Array],
        paged_kv_last_page_len: List[Array],
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        sm_scale: Optional[float] = None,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
        q_data_type: Any = "float16",
        kv_data_type: Any = None,
    ) -> None:
        """Plans a batch; an array a level, each as BatchPrefillWithPagedKVCacheWrapper takes it.

        The groups of a level are whole requests, or groups, of the next one: ValueError where they
        are not. causal is for the last level. window_left, pos_encoding_mode: NotImplementedError.
        use_fp16_qk_reduction has no effect.
        """
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        arrays = {
            "qo_indptr_arr": qo_indptr_arr,
            "paged_kv_indptr_arr": paged_kv_indptr_arr,
            "paged_kv_indices_arr": paged_kv_indices_arr,
            "paged_kv_last_page_len": paged_kv_last_page_len,
        }
        for name, levels in arrays.items():
            if len(levels) != self._num_levels:
                raise ValueError(
                    f"{self._op}: {name}: got {len(levels)} arrays, expected {self._num_levels}, "
                    "num_levels"
                )
        if page_size < 1:
            raise ValueError(f"{self._op}: page_size: got {page_size}, expected >= 1")
        if window_left >= 0:  # one level alone could have it
            raise _options.not_implemented(self._op, "window_left", window_left)
        self._engine.plan_cascade(
            list(zip(*arrays.values())),
            num_qo_heads=num_qo_heads,
            num_kv_heads=num_kv_heads,
            head_dim_qk=head_dim,
            page_size=page_size,
            kv_layout=self._kv_layout,
            causal=causal,
            **resolve_dtypes(q_data_type, kv_data_type, None),
        )
        self._keep_run_options(
            causal,
            -1,
            logits_soft_cap,
            sm_scale,
            rope_scale=rope_scale,
            rope_theta=rope_theta,
        )
        self._planned = True

    begin_forward = plan

    def run(self, q: Array, paged_kv_cache: Any) -> Array:
        """q ``[rows, num_qo_heads, head_dim]``; paged_kv_cache as the other wrappers take it, one
        for all levels. Returns out, of q's shape and dtype."""
        k, v = split_paged_kv_cache(self._op, paged_kv_cache, self._kv_layout)
        return self._run(q, k, v, None, None, False, {})

    forward = run


def merge_state(v_a: Array, s_a: Array, v_b: Array, s_b: Array) -> Tuple[Array, Array]:
    """The state of the union of two disjoint KV sets: v ``[n, heads, head_dim]``, s float32
    ``[n, heads]``. Unlike FlashInfer, two empty states give (0, -inf), not NaN."""
    return _merge.merge_state(v_a, _float32(s_a), v_b, _float32(s_b), lse_base=2)


def merge_state_in_place(
    v: Array, s: Array, v_other: Array, s_other: Array, mask: Optional[Array] = None
) -> None:
    """Updates (v, s) with (v_other, s_other) where mask ``[n]`` (uint8 or bool) is not 0.

    s must be float32: unlike FlashInfer, another dtype is a TypeError and not a lost update.
    """
    _merge.merge_state_in_place(v, s, v_other, _float32(s_other), mask, lse_base=2)


def merge_states(v: Array, s: Array) -> Tuple[Array, Array]:
    """Merges v ``[n, states, heads, head_dim]`` and s ``[n, states, heads]`` over the states."""
    return _merge.merge_states(v, _float32(s), lse_base=2)


def _float32(s: Array) -> Array:
    arrays = arrays_of(s)
    return arrays.contiguous(arrays.cast(s, "f32"))
