"""FlashInfer's ``flashinfer.decode``: one query row a request, or a few (q_len_per_req)."""

from __future__ import annotations

import functools
from typing import Any, Optional, Tuple, Union

from .._arrays import Array, to_host_int32
from . import _options
from ._kv_cache import split_paged_kv_cache
from ._plan_arguments import decode_plan_arguments, merge_positional, resolve_dtypes
from ._single_request import single_decode_with_kv_cache as single_decode_with_kv_cache
from ._wrapper import AttentionWrapper


class BatchDecodeWithPagedKVCacheWrapper(AttentionWrapper):
    """Batch decode over a paged KV-cache: plan() once a step, run() once a layer.

    float_workspace_buffer: contiguous, 16-byte aligned, on the device of the tensors, for split-KV
    partial results; an empty one means memory of the wrapper's own. kv_layout: "NHD" or "HND".
    With use_cuda_graph the three index buffers are given, plan() fills them, and the batch size is
    fixed to theirs. use_tensor_cores and backend choose nothing: there is one engine. jit_args is
    NotImplementedError.
    """

    def __init__(
        self,
        float_workspace_buffer: Array,
        kv_layout: str = "NHD",
        use_cuda_graph: bool = False,
        use_tensor_cores: bool = False,
        paged_kv_indptr_buffer: Optional[Array] = None,
        paged_kv_indices_buffer: Optional[Array] = None,
        paged_kv_last_page_len_buffer: Optional[Array] = None,
        backend: str = "auto",
        jit_args: Optional[Any] = None,
    ) -> None:
        super().__init__(
            float_workspace_buffer, kv_layout, backend, use_cuda_graph, jit_args=jit_args
        )
        self._fixed_batch_size = 0
        if use_cuda_graph:
            self._fixed_batch_size = self._check_buffers(
                paged_kv_indptr_buffer=paged_kv_indptr_buffer,
                paged_kv_indices_buffer=paged_kv_indices_buffer,
                paged_kv_last_page_len_buffer=paged_kv_last_page_len_buffer,
            )
        self._paged_kv_indptr_buf = paged_kv_indptr_buffer
        self._paged_kv_indices_buf = paged_kv_indices_buffer
        self._paged_kv_last_page_len_buf = paged_kv_last_page_len_buffer
        self._use_tensor_cores = use_tensor_cores
        self._q_len_per_req = 1

    def _check_buffers(self, **buffers: Optional[Array]) -> int:
        """The batch size that the index buffers are made for."""
        for name, buffer in buffers.items():
            if buffer is None:
                raise ValueError(
                    f"{self._op}: {name}: got None, expected a tensor: use_cuda_graph is set"
                )
        batch_size = len(buffers["paged_kv_last_page_len_buffer"])
        if len(buffers["paged_kv_indptr_buffer"]) != batch_size + 1:
            raise ValueError(
                f"{self._op}: paged_kv_indptr_buffer: got "
                f"{len(buffers['paged_kv_indptr_buffer'])} elements, expected {batch_size + 1}, "
                "one more than paged_kv_last_page_len_buffer"
            )
        return batch_size

    @property
    def use_tensor_cores(self) -> bool:
        return self._use_tensor_cores

    def plan(
        self,
        indptr: Array,
        indices: Array,
        last_page_len: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        *deprecated_positional_args: Any,
        **kwargs: Any,
    ) -> None:
        """Plans a batch. indptr int32 ``[batch + 1]`` and last_page_len int32 ``[batch]`` are read
        on the host (on CUDA tensors that waits); indices int32 are page ids.

        Keywords (also accepted by position, with a warning): pos_encoding_mode="NONE",
        window_left=-1, logits_soft_cap=None, q_data_type="float16", kv_data_type=None,
        o_data_type=None, data_type=None, sm_scale=None, rope_scale=None, rope_theta=None,
        non_blocking=True, block_tables=None, seq_lens=None, fixed_split_size=None (pages),
        disable_split_kv=False, q_len_per_req=1; window_right=0 by keyword only.
        q_len_per_req > 1: that many query rows a request, causal among themselves. non_blocking,
        block_tables and seq_lens have no effect: indptr, indices and last_page_len say it all.
        Raises ValueError, TypeError, NotImplementedError, MemoryError; a failed plan leaves the
        last one.
        """
        if deprecated_positional_args:
            kwargs = merge_positional(self._op, deprecated_positional_args, kwargs)
        table = (indptr, indices, last_page_len)
        self._plan_impl(*table, num_qo_heads, num_kv_heads, head_dim, page_size, **kwargs)

    begin_forward = plan

    def _plan_impl(
        self,
        indptr: Array,
        indices: Array,
        last_page_len: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        pos_encoding_mode: str = "NONE",
        window_left: int = -1,
        window_right: int = 0,
        logits_soft_cap: Optional[float] = None,
        q_data_type: Any = "float16",
        kv_data_type: Any = None,
        o_data_type: Any = None,
        data_type: Any = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
        non_blocking: bool = True,
        block_tables: Optional[Array] = None,
        seq_lens: Optional[Array] = None,
        fixed_split_size: Optional[int] = None,
        disable_split_kv: bool = False,
        q_len_per_req: int = 1,
    ) -> None:
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        _options.refuse(self._op, window_right=window_right or None)
        batch_size = len(last_page_len)
        self._check_graph_batch(batch_size, self._fixed_batch_size)
        arguments = decode_plan_arguments(
            self._op,
            (indptr, indices, last_page_len),
            (num_qo_heads, num_kv_heads, head_dim, page_size),
            kv_layout=self._kv_layout,
            **resolve_dtypes(q_data_type, kv_data_type, o_data_type, data_type),
            window_left=window_left,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
            q_len_per_req=q_len_per_req,
        )
        if self._use_cuda_graph:
            self._check_fits("indices", indices, self._paged_kv_indices_buf)
            self._reserve_once(arguments, len(self._paged_kv_indices_buf), q_len_per_req)
        self._engine.plan(**arguments)
        if self._use_cuda_graph:  # for whoever reads them; the plan has copies
            self._static_copy("indptr", indptr, self._paged_kv_indptr_buf)
            self._static_copy("last_page_len", last_page_len, self._paged_kv_last_page_len_buf)
            self._static_copy("indices", indices, self._paged_kv_indices_buf)
        else:
            self._paged_kv_indptr_buf = self._on_device(indptr, "indptr")
            self._paged_kv_indices_buf = self._on_device(indices, "indices")
            self._paged_kv_last_page_len_buf = self._on_device(last_page_len, "last_page_len")
        self._planned = True
        self._batch_size, self._q_len_per_req = batch_size, q_len_per_req
        self._keep_run_options(
            causal=q_len_per_req > 1,
            window_left=window_left,
            logits_soft_cap=logits_soft_cap,
            sm_scale=sm_scale,
            rope_scale=rope_scale,
            rope_theta=rope_theta,
        )

    def workspace_size(
        self,
        indptr: Array,
        indices: Array,
        last_page_len: Array,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim: int,
        page_size: int,
        pos_encoding_mode: str = "NONE",
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        q_data_type: Any = "float16",
        kv_data_type: Any = None,
        o_data_type: Any = None,
        data_type: Any = None,
        sm_scale: Optional[float] = None,
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
        block_tables: Optional[Array] = None,
        seq_lens: Optional[Array] = None,
        fixed_split_size: Optional[int] = None,
        disable_split_kv: bool = False,
        q_len_per_req: int = 1,
    ) -> Tuple[int, int]:
        """(bytes of float workspace, bytes of int workspace) that plan() would use; the second is
        0, the engine keeps its plan itself. Changes nothing. Raises as plan()."""
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        arguments = decode_plan_arguments(
            self._op,
            (indptr, indices, last_page_len),
            (num_qo_heads, num_kv_heads, head_dim, page_size),
            kv_layout=self._kv_layout,
            **resolve_dtypes(q_data_type, kv_data_type, o_data_type, data_type),
            window_left=window_left,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
            q_len_per_req=q_len_per_req,
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
        q_len_per_req: Optional[int] = None,
        skip_softmax_threshold_scale_factor: Optional[float] = None,
        kv_cache_sf: Any = None,
    ) -> Union[Array, Tuple[Array, Array]]:
        """Attention of q ``[batch * q_len_per_req, num_qo_heads, head_dim]`` over planned pages.

        paged_kv_cache: one tensor or a tuple of two, see append_paged_kv_cache. Scales are numbers
        or, for tensors that are fp8, float32 tensors with one element or one a head; window_left
        overrides plan's; sinks: ``[num_qo_heads]``. Returns out, or (out, lse) with lse float32
        ``[rows, num_qo_heads]`` to base 2. Raises ValueError, TypeError, NotImplementedError.
        """
        _options.refuse(
            self._op,
            jit_args=args or None,
            skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor,
            kv_cache_sf=kv_cache_sf,
        )
        if q_len_per_req is not None and q_len_per_req != self._q_len_per_req:
            raise ValueError(
                f"{self._op}: q_len_per_req: got {q_len_per_req}, expected "
                f"{self._q_len_per_req}, as planned"
            )
        k, v = split_paged_kv_cache(self._op, paged_kv_cache, self._kv_layout)
        scales = {"q_scale": q_scale, "k_scale": k_scale, "v_scale": v_scale}
        return self._run(q, k, v, out, lse, return_lse, scales, window_left, sinks)

    run_return_lse = functools.partialmethod(run, return_lse=True)

    def forward(
        self,
        q: Array,
        paged_kv_cache: Any,
        pos_encoding_mode: str = "NONE",
        q_scale: Optional[float] = None,
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
        self._keep_run_options(self._causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        return self.run(q, paged_kv_cache, q_scale=q_scale, k_scale=k_scale, v_scale=v_scale)

    def forward_return_lse(
        self,
        q: Array,
        paged_kv_cache: Any,
        pos_encoding_mode: str = "NONE",
        q_scale: Optional[float] = None,
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
        self._keep_run_options(self._causal, *options, pos_encoding_mode, rope_scale, rope_theta)
        scales = {"q_scale": q_scale, "k_scale": k_scale, "v_scale": v_scale}
        return self.run(q, paged_kv_cache, return_lse=True, **scales)


class CUDAGraphBatchDecodeWithPagedKVCacheWrapper(BatchDecodeWithPagedKVCacheWrapper):
    """BatchDecodeWithPagedKVCacheWrapper with use_cuda_graph=True."""

    def __init__(
        self,
        workspace_buffer: Array,
        indptr_buffer: Array,
        indices_buffer: Array,
        last_page_len_buffer: Array,
        kv_layout: str = "NHD",
        use_tensor_cores: bool = False,
    ) -> None:
        super().__init__(
            workspace_buffer,
            kv_layout,
            True,
            use_tensor_cores,
            indptr_buffer,
            indices_buffer,
            last_page_len_buffer,
        )


def fast_decode_plan(
    self: BatchDecodeWithPagedKVCacheWrapper,
    indptr: Array,
    indices: Array,
    last_page_len: Array,
    num_qo_heads: int,
    num_kv_heads: int,
    head_dim: int,
    page_size: int,
    pos_encoding_mode: str = "NONE",
    window_left: int = -1,
    logits_soft_cap: Optional[float] = None,
    q_data_type: Any = None,
    kv_data_type: Any = None,
    data_type: Any = None,
    sm_scale: Optional[float] = None,
    rope_scale: Optional[float] = None,
    rope_theta: Optional[float] = None,
    non_blocking: bool = True,
    fixed_split_size: Optional[int] = None,
    disable_split_kv: bool = False,
    q_len_per_req: int = 1,
    global_override_indptr_cpu: Optional[Array] = None,
) -> None:
    """plan() under the name that engines bind over begin_forward. It checks everything plan()
    checks; global_override_indptr_cpu, if given, is read instead of indptr."""
    if global_override_indptr_cpu is not None:
        indptr = to_host_int32(global_override_indptr_cpu, "fast_decode_plan", "indptr")
    self._plan_impl(
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim,
        page_size,
        pos_encoding_mode=pos_encoding_mode,
        window_left=window_left,
        logits_soft_cap=logits_soft_cap,
        q_data_type=q_data_type,
        kv_data_type=kv_data_type,
        data_type=data_type,
        sm_scale=sm_scale,
        rope_scale=rope_scale,
        rope_theta=rope_theta,
        fixed_split_size=fixed_split_size,
        disable_split_kv=disable_split_kv,
        q_len_per_req=q_len_per_req,
    )
