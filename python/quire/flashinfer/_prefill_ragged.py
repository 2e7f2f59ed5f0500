"""FlashInfer's prefill over ragged K and V."""

from __future__ import annotations

import functools
from typing import Any, Optional, Tuple, Union

import numpy as np

from .._arrays import Array, to_host_int32
from . import _options
from ._masks import pack_custom_mask
from ._plan_arguments import resolve_dtypes
from ._prefill_wrapper import PrefillWrapper


class BatchPrefillWithRaggedKVCacheWrapper(PrefillWrapper):
    """Batch prefill over K and V that are concatenated request by request.

    float_workspace_buffer, kv_layout, backend, jit_args: see BatchDecodeWithPagedKVCacheWrapper.
    With use_cuda_graph qo_indptr_buf and kv_indptr_buf are given, the batch size is fixed to theirs
    and the rows of q are at most those of the first plan.
    """

    def __init__(
        self,
        float_workspace_buffer: Array,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        qo_indptr_buf: Optional[Array] = None,
        kv_indptr_buf: Optional[Array] = None,
        custom_mask_buf: Optional[Array] = None,
        mask_indptr_buf: Optional[Array] = None,
        backend: str = "auto",
        jit_args: Optional[Any] = None,
        jit_kwargs: Optional[Any] = None,
    ) -> None:
        super().__init__(
            float_workspace_buffer,
            kv_layout,
            backend,
            use_cuda_graph,
            jit_args=jit_args,
            jit_kwargs=jit_kwargs,
        )
        required = {"qo_indptr_buf": qo_indptr_buf, "kv_indptr_buf": kv_indptr_buf}
        self._init_buffers(required, custom_mask_buf, mask_indptr_buf)
        self._qo_indptr_buf = qo_indptr_buf
        self._kv_indptr_buf = kv_indptr_buf

    def plan(
        self,
        qo_indptr: Array,
        kv_indptr: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        head_dim_vo: Optional[int] = None,
        custom_mask: Optional[Array] = None,
        packed_custom_mask: Optional[Array] = None,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
        q_data_type: Any = "float16",
        kv_data_type: Any = None,
        o_data_type: Any = None,
        non_blocking: bool = True,
        prefix_len_ptr: Optional[Array] = None,
        token_pos_in_items_ptr: Optional[Array] = None,
        token_pos_in_items_len: int = 0,
        max_item_len_ptr: Optional[Array] = None,
        fixed_split_size: Optional[int] = None,
        disable_split_kv: bool = False,
        seq_lens: Optional[Array] = None,
        seq_lens_q: Optional[Array] = None,
        max_token_per_sequence: Optional[int] = None,
        max_sequence_kv: Optional[int] = None,
        v_indptr: Optional[Array] = None,
        o_indptr: Optional[Array] = None,
    ) -> None:
        """Plans a batch. qo_indptr and kv_indptr, int32 ``[batch + 1]`` in tokens, are read on the
        host (on CUDA tensors that waits).

        Masks and options as BatchPrefillWithPagedKVCacheWrapper.plan; fixed_split_size is in
        tokens; v_indptr and o_indptr are NotImplementedError. Raises ValueError, TypeError,
        MemoryError; a failed plan leaves the last one.
        """
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        _options.refuse(
            self._op,
            prefix_len_ptr=prefix_len_ptr,
            token_pos_in_items_ptr=token_pos_in_items_ptr,
            token_pos_in_items_len=token_pos_in_items_len or None,
            max_item_len_ptr=max_item_len_ptr,
            v_indptr=v_indptr,
            o_indptr=o_indptr,
        )
        arguments = {
            "qo_indptr": to_host_int32(qo_indptr, self._op, "qo_indptr"),
            "kv_indptr": to_host_int32(kv_indptr, self._op, "kv_indptr"),
            "num_qo_heads": num_qo_heads,
            "num_kv_heads": num_kv_heads,
            "head_dim_qk": head_dim_qk,
            "head_dim_vo": head_dim_vo,
            "kv_layout": self._kv_layout,
            **resolve_dtypes(q_data_type, kv_data_type, o_data_type),
            "causal": causal,
            "window_left": window_left,
            "fixed_split_size": _options.split_size_tokens(fixed_split_size, page_size=1),
            "disable_split_kv": disable_split_kv,
        }
        self._check_graph_rows(arguments["qo_indptr"])
        has_mask = custom_mask is not None or packed_custom_mask is not None
        if has_mask:
            self._engine.plan(**arguments, dry_run=True)  # refuse before anything changes
        num_bits = np.diff(arguments["qo_indptr"]) * np.diff(arguments["kv_indptr"]).astype(
            np.int64
        )
        mask = pack_custom_mask(
            self._op, custom_mask, packed_custom_mask, num_bits, self._float_workspace_buffer
        )
        self._check_mask(*mask)
        if self._use_cuda_graph:
            self._check_fits("qo_indptr", qo_indptr, self._qo_indptr_buf)
            self._check_fits("kv_indptr", kv_indptr, self._kv_indptr_buf)
            # Fixed splits need room in proportion to the tokens: those of the first plan.
            fixed = arguments["fixed_split_size"]
            max_tokens = int(arguments["kv_indptr"][-1]) if fixed else np.iinfo(np.int32).max
            self._reserve_once(arguments, int(max_tokens))
        self._engine.plan(**arguments)
        if self._use_cuda_graph:
            self._static_copy("qo_indptr", qo_indptr, self._qo_indptr_buf)
            self._static_copy("kv_indptr", kv_indptr, self._kv_indptr_buf)
        else:
            self._qo_indptr_buf = self._on_device(qo_indptr, "qo_indptr")
            self._kv_indptr_buf = self._on_device(kv_indptr, "kv_indptr")
        if self._max_total_num_rows is None:
            self._max_total_num_rows = int(arguments["qo_indptr"][-1])
        self._planned = True
        self._keep_mask(*mask)
        self._keep_run_options(
            causal,
            window_left,
            logits_soft_cap,
            sm_scale,
            rope_scale=rope_scale,
            rope_theta=rope_theta,
        )

    begin_forward = plan

    def run(
        self,
        q: Array,
        k: Array,
        v: Array,
        *args: Any,
        q_scale: Optional[float] = None,
        k_scale: Optional[float] = None,
        v_scale: Optional[float] = None,
        o_scale: Optional[float] = None,
        out: Optional[Array] = None,
        lse: Optional[Array] = None,
        return_lse: bool = False,
        enable_pdl: Optional[bool] = None,
        kv_cache_sf: Any = None,
    ) -> Union[Array, Tuple[Array, Array]]:
        """Attention of q ``[qo_indptr[-1], num_qo_heads, head_dim_qk]`` over k ``[kv_indptr[-1],
        num_kv_heads, head_dim_qk]`` and v ``[kv_indptr[-1], num_kv_heads, head_dim_vo]`` (HND:
        heads first). Returns out, or (out, lse) with lse float32 ``[rows, num_qo_heads]`` to base
        2. Scales: as for paged KV. o_scale, kv_cache_sf: NotImplementedError. Raises ValueError,
        TypeError.
        """
        _options.refuse(self._op, o_scale=o_scale, kv_cache_sf=kv_cache_sf)
        scales = _options.positional_scales(
            self._op, args, q, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale
        )
        return self._run(q, k, v, out, lse, return_lse, scales)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(
        self,
        q: Array,
        k: Array,
        v: Array,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
    ) -> Array:
        """run() with the options given here, which stay for later runs."""
        options = (window_left, logits_soft_cap, sm_scale)
        self._keep_run_options(causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        return self.run(q, k, v)

    def forward_return_lse(
        self,
        q: Array,
        k: Array,
        v: Array,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
    ) -> Tuple[Array, Array]:
        """forward() that also returns lse."""
        options = (window_left, logits_soft_cap, sm_scale)
        self._keep_run_options(causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        return self.run(q, k, v, return_lse=True)
