"""FlashInfer's prefill over a paged KV-cache."""

from __future__ import annotations

import functools
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np

from .._arrays import Array, to_host_int32
from . import _options
from ._kv_cache import split_paged_kv_cache
from ._masks import pack_custom_mask
from ._plan_arguments import resolve_dtypes
from ._prefill_wrapper import PrefillWrapper


class BatchPrefillWithPagedKVCacheWrapper(PrefillWrapper):
    """Batch prefill or append over a paged KV-cache: plan() once a step, run() once a layer.

    float_workspace_buffer, kv_layout, backend, jit_args: see BatchDecodeWithPagedKVCacheWrapper.
    With use_cuda_graph the index buffers are given, plan() fills them, the batch size is fixed to
    theirs and the rows of q are at most those of the first plan; custom_mask_buf and
    mask_indptr_buf are needed only for masks.
    """

    def __init__(
        self,
        float_workspace_buffer: Array,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        qo_indptr_buf: Optional[Array] = None,
        paged_kv_indptr_buf: Optional[Array] = None,
        paged_kv_indices_buf: Optional[Array] = None,
        paged_kv_last_page_len_buf: Optional[Array] = None,
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
        required = {
            "qo_indptr_buf": qo_indptr_buf,
            "paged_kv_indptr_buf": paged_kv_indptr_buf,
            "paged_kv_indices_buf": paged_kv_indices_buf,
            "paged_kv_last_page_len_buf": paged_kv_last_page_len_buf,
        }
        self._init_buffers(required, custom_mask_buf, mask_indptr_buf)
        self._qo_indptr_buf = qo_indptr_buf
        self._paged_kv_indptr_buf = paged_kv_indptr_buf
        self._paged_kv_indices_buf = paged_kv_indices_buf
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len_buf

    def plan(
        self,
        qo_indptr: Array,
        paged_kv_indptr: Array,
        paged_kv_indices: Array,
        paged_kv_last_page_len: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        head_dim_vo: Optional[int] = None,
        custom_mask: Optional[Array] = None,
        packed_custom_mask: Optional[Array] = None,
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
        o_data_type: Any = None,
        non_blocking: bool = True,
        prefix_len_ptr: Optional[Array] = None,
        token_pos_in_items_ptr: Optional[Array] = None,
        token_pos_in_items_len: int = 0,
        max_item_len_ptr: Optional[Array] = None,
        seq_lens: Optional[Array] = None,
        seq_lens_q: Optional[Array] = None,
        block_tables: Optional[Array] = None,
        max_token_per_sequence: Optional[int] = None,
        max_sequence_kv: Optional[int] = None,
        fixed_split_size: Optional[int] = None,
        disable_split_kv: bool = False,
    ) -> None:
        """Plans a batch. qo_indptr int32 ``[batch + 1]``, paged_kv_indptr int32 ``[batch + 1]`` and
        paged_kv_last_page_len int32 ``[batch]`` are read on the host (on CUDA tensors that waits).

        custom_mask: flat bool ``[sum(qo_len * kv_len)]``, or packed_custom_mask: u8 with each
        request padded to a byte; they replace causal. fixed_split_size is in pages. Multi-item
        scoring (prefix_len_ptr, token_pos_in_items_ptr, max_item_len_ptr), pos_encoding_mode:
        NotImplementedError. Without effect, the index arrays say it all: non_blocking,
        use_fp16_qk_reduction, seq_lens, seq_lens_q, block_tables, max_token_per_sequence and
        max_sequence_kv.
        Raises ValueError, TypeError, MemoryError; a failed plan leaves the last one.
        """
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        _options.refuse(
            self._op,
            prefix_len_ptr=prefix_len_ptr,
            token_pos_in_items_ptr=token_pos_in_items_ptr,
            token_pos_in_items_len=token_pos_in_items_len or None,
            max_item_len_ptr=max_item_len_ptr,
        )
        arguments = self._plan_arguments(
            (qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len),
            (num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo, page_size),
            resolve_dtypes(q_data_type, kv_data_type, o_data_type),
            causal=causal,
            window_left=window_left,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
        )
        self._check_graph_rows(arguments["qo_indptr"])
        has_mask = custom_mask is not None or packed_custom_mask is not None
        if has_mask:
            self._engine.plan(**arguments, dry_run=True)  # refuse before anything changes
        mask = pack_custom_mask(
            self._op,
            custom_mask,
            packed_custom_mask,
            self._mask_bits(arguments),
            self._float_workspace_buffer,
        )
        self._check_mask(*mask)
        indices = (qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len)
        self._plan_engine(arguments, indices)
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

    def _plan_arguments(
        self,
        table: Tuple[Array, Array, Array, Array],
        shape: Tuple[int, int, int, Optional[int], int],
        dtypes: Dict[str, str],
        *,
        causal: bool,
        window_left: int,
        fixed_split_size: Optional[int],
        disable_split_kv: bool,
    ) -> Dict[str, Any]:
        """FlashInfer's arguments as those of BatchAttention.plan, index arrays on the host."""
        qo_indptr, kv_indptr, kv_indices, last_page_len = table
        num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo, page_size = shape
        if page_size < 1:
            raise ValueError(f"{self._op}: page_size: got {page_size}, expected >= 1")
        return {
            "qo_indptr": to_host_int32(qo_indptr, self._op, "qo_indptr"),
            "kv_indptr": to_host_int32(kv_indptr, self._op, "paged_kv_indptr"),
            "kv_indices": kv_indices,
            "kv_last_page_len": to_host_int32(last_page_len, self._op, "paged_kv_last_page_len"),
            "num_qo_heads": num_qo_heads,
            "num_kv_heads": num_kv_heads,
            "head_dim_qk": head_dim_qk,
            "head_dim_vo": head_dim_vo,
            "page_size": page_size,
            "kv_layout": self._kv_layout,
            **dtypes,
            "causal": causal,
            "window_left": window_left,
            "fixed_split_size": _options.split_size_tokens(fixed_split_size, page_size),
            "disable_split_kv": disable_split_kv,
        }

    @staticmethod
    def _mask_bits(arguments: Dict[str, Any]) -> np.ndarray:
        """Query rows times tokens of each request."""
        num_pages = np.diff(arguments["kv_indptr"]).astype(np.int64)
        full = np.maximum(num_pages - 1, 0) * arguments["page_size"]
        kv_len = np.where(num_pages > 0, full + arguments["kv_last_page_len"], 0)
        return np.diff(arguments["qo_indptr"]) * kv_len

    def _plan_engine(self, arguments: Dict[str, Any], index_arrays: Tuple[Array, ...]) -> None:
        names = ("qo_indptr", "paged_kv_indptr", "paged_kv_indices", "paged_kv_last_page_len")
        buffers = [getattr(self, f"_{name}_buf") for name in names]
        if self._use_cuda_graph:
            for name, array, buffer in zip(names, index_arrays, buffers):
                self._check_fits(name, array, buffer)
            self._reserve_once(arguments, len(self._paged_kv_indices_buf))
        self._engine.plan(**arguments)
        if self._use_cuda_graph:  # for whoever reads them; the plan has copies
            for name, array, buffer in zip(names, index_arrays, buffers):
                self._static_copy(name, array, buffer)
        else:
            for name, array in zip(names, index_arrays):
                setattr(self, f"_{name}_buf", self._on_device(array, name))
        if self._max_total_num_rows is None:
            self._max_total_num_rows = int(arguments["qo_indptr"][-1])
        self._planned = True

    def workspace_size(
        self,
        qo_indptr: Array,
        paged_kv_indptr: Array,
        paged_kv_indices: Array,
        paged_kv_last_page_len: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        page_size: int,
        head_dim_vo: Optional[int] = None,
        custom_mask: Optional[Array] = None,
        packed_custom_mask: Optional[Array] = None,
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
        o_data_type: Any = None,
        prefix_len_ptr: Optional[Array] = None,
        token_pos_in_items_ptr: Optional[Array] = None,
        token_pos_in_items_len: int = 0,
        max_item_len_ptr: Optional[Array] = None,
        seq_lens: Optional[Array] = None,
        seq_lens_q: Optional[Array] = None,
        block_tables: Optional[Array] = None,
        max_token_per_sequence: Optional[int] = None,
        max_sequence_kv: Optional[int] = None,
        fixed_split_size: Optional[int] = None,
        disable_split_kv: bool = False,
    ) -> Tuple[int, int]:
        """(bytes of float workspace, bytes of int workspace) that plan() would use; the second is
        0, the engine keeps its plan itself. Changes nothing. Raises as plan()."""
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        arguments = self._plan_arguments(
            (qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len),
            (num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo, page_size),
            resolve_dtypes(q_data_type, kv_data_type, o_data_type),
            causal=causal,
            window_left=window_left,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
        )
        return self._engine.plan(**arguments, dry_run=True), 0

    def run(
        self,
        q: Array,
        paged_kv_cache: Any,
        *args: Any,
        q_scale: Optional[float] = None,
        k_scale: Optional[float] = None,
        v_scale: Optional[float] = None,
        out: Optional[Array] = None,
        lse: Optional[Array] = None,
        return_lse: bool = False,
        enable_pdl: Optional[bool] = None,
        window_left: Optional[int] = None,
        sinks: Optional[Array] = None,
        kv_cache_sf: Any = None,
        skip_softmax_threshold_scale_factor: Optional[float] = None,
        use_fp16_softmax: Optional[bool] = None,
        uses_spcompress: Optional[bool] = None,
    ) -> Union[Array, Tuple[Array, Array]]:
        """Attention of q ``[qo_indptr[-1], num_qo_heads, head_dim_qk]`` over the planned pages.

        Arguments and result as BatchDecodeWithPagedKVCacheWrapper.run; the three scales of an fp8 q
        also by position. use_fp16_softmax has no effect. Raises ValueError, TypeError,
        NotImplementedError.
        """
        _options.refuse(
            self._op,
            kv_cache_sf=kv_cache_sf,
            skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor,
            uses_spcompress=uses_spcompress or None,
        )
        scales = _options.positional_scales(
            self._op, args, q, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale
        )
        k, v = split_paged_kv_cache(self._op, paged_kv_cache, self._kv_layout)
        return self._run(q, k, v, out, lse, return_lse, scales, window_left, sinks)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(
        self,
        q: Array,
        paged_kv_cache: Any,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        k_scale: Optional[float] = None,
        v_scale: Optional[float] = None,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
    ) -> Array:
        """run() with the options given here, which stay for later runs."""
        options = (window_left, logits_soft_cap, sm_scale)
        self._keep_run_options(causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        return self.run(q, paged_kv_cache, k_scale=k_scale, v_scale=v_scale)

    def forward_return_lse(
        self,
        q: Array,
        paged_kv_cache: Any,
        causal: bool = False,
        pos_encoding_mode: str = "NONE",
        use_fp16_qk_reduction: bool = False,
        k_scale: Optional[float] = None,
        v_scale: Optional[float] = None,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
    ) -> Tuple[Array, Array]:
        """forward() that also returns lse."""
        options = (window_left, logits_soft_cap, sm_scale)
        self._keep_run_options(causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        return self.run(q, paged_kv_cache, k_scale=k_scale, v_scale=v_scale, return_lse=True)
