"""What FlashInfer's batch attention wrappers have in common, over :class:`quire.BatchAttention`."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple, Union

import numpy as np

from .._arrays import Array, arrays_of, to_host_int32
from ..attention import BatchAttention
from . import _options


class AttentionWrapper:
    """Workspace, run options kept between plan() and run(), and the run itself.

    The attributes with an underscore are FlashInfer's: engines read and set them.
    """

    def __init__(
        self,
        float_workspace_buffer: Array,
        kv_layout: str,
        backend: str,
        use_cuda_graph: bool,
        **refused: Any,
    ) -> None:
        self._op = type(self).__name__
        _options.check_kv_layout(self._op, kv_layout)
        _options.check_backend(self._op, backend)
        _options.refuse(self._op, **refused)
        self._arrays = arrays_of(float_workspace_buffer)
        self._kv_layout = kv_layout
        self._backend = backend
        self._use_cuda_graph = use_cuda_graph
        self._engine = BatchAttention(self._arrays.device(float_workspace_buffer))
        self.device = getattr(float_workspace_buffer, "device", "cpu")
        self._set_float_workspace(float_workspace_buffer)
        # The engine keeps its plan in memory of its own; these are only passed around by callers.
        self._int_workspace_buffer = self._arrays.empty((8,), "u8", float_workspace_buffer)
        self._pin_memory_int_workspace_buffer = np.empty(8, np.uint8)
        self._custom_mask: Optional[Array] = None
        self._mask_indptr: Optional[Array] = None
        self._planned = False
        self._keep_run_options()

    @property
    def is_cuda_graph_enabled(self) -> bool:
        return self._use_cuda_graph

    def reset_workspace_buffer(
        self, float_workspace_buffer: Array, int_workspace_buffer: Array
    ) -> None:
        """Replaces the workspace; takes effect with the next plan(). int_workspace_buffer is kept
        but not used."""
        self._set_float_workspace(float_workspace_buffer)
        self._int_workspace_buffer = int_workspace_buffer

    def _set_float_workspace(self, buffer: Array) -> None:
        has_bytes = all(size > 0 for size in buffer.shape)
        self._engine.set_workspace(self._arrays.as_bytes(buffer) if has_bytes else None)
        self._float_workspace_buffer = buffer

    def _keep_run_options(
        self,
        causal: bool = False,
        window_left: int = -1,
        logits_soft_cap: Optional[float] = None,
        sm_scale: Optional[float] = None,
        pos_encoding_mode: str = "NONE",
        rope_scale: Optional[float] = None,
        rope_theta: Optional[float] = None,
    ) -> None:
        """Remembers what run() will use; forward() changes it between plan() and run()."""
        _options.check_pos_encoding_mode(self._op, pos_encoding_mode)
        self._causal = causal
        self._window_left = window_left
        self._logits_soft_cap = logits_soft_cap
        self._sm_scale = sm_scale
        self._pos_encoding_mode = pos_encoding_mode
        self._rope_scale = rope_scale
        self._rope_theta = rope_theta

    def _check_graph_batch(self, batch_size: int, fixed_batch_size: int) -> None:
        if self._use_cuda_graph and batch_size != fixed_batch_size:
            raise ValueError(
                f"{self._op}: batch_size: got {batch_size}, expected {fixed_batch_size}, the size "
                "of the buffers given for CUDA graphs"
            )

    def _check_fits(self, name: str, values: Any, buffer: Optional[Array]) -> None:
        """Whether values can be copied to a buffer given for CUDA graphs."""
        if buffer is None:
            raise ValueError(
                f"{self._op}: {name}: got no buffer for it, expected one: use_cuda_graph is set"
            )
        if len(values) > len(buffer):
            raise ValueError(
                f"{self._op}: {name}: got {len(values)} elements, expected at most {len(buffer)}, "
                "the size of the buffer given for CUDA graphs"
            )

    def _reserve_once(
        self, plan_arguments: Mapping[str, Any], max_kv_entries: int, max_qo_len: int = 0
    ) -> None:
        """The first plan for CUDA graphs that succeeds says how many rows of q there may be."""
        if self._planned:
            return
        arrays = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
        kind = {name: x for name, x in plan_arguments.items() if name not in arrays}
        qo_indptr = plan_arguments["qo_indptr"]
        self._engine.reserve(
            max_batch_size=max(len(qo_indptr) - 1, 1),
            max_total_q=max(int(qo_indptr[-1]), 1),
            max_qo_len=max_qo_len,
            max_kv_entries=max_kv_entries,
            **kind,
        )

    def _static_copy(self, name: str, values: Any, buffer: Array) -> Array:
        """Copies index values to the start of a buffer whose address CUDA graphs have captured."""
        host = values if hasattr(values, "shape") else np.asarray(values, np.int32)
        view = buffer[: len(host)]
        if arrays_of(host) is not self._arrays:
            host = self._arrays.from_numpy(to_host_int32(host, self._op, name), buffer)
        view[...] = host
        return view

    def _on_device(self, values: Any, name: str) -> Array:
        """Index values beside the workspace, for the attributes that engines read."""
        if hasattr(values, "shape") and arrays_of(values) is self._arrays:
            return self._arrays.move(values, self._float_workspace_buffer)
        return self._arrays.from_numpy(
            to_host_int32(values, self._op, name), self._float_workspace_buffer
        )

    def _run(
        self,
        q: Array,
        k: Array,
        v: Array,
        out: Optional[Array],
        lse: Optional[Array],
        return_lse: bool,
        scales: Mapping[str, Any],
        window_left: Optional[int] = None,
        sinks: Optional[Array] = None,
    ) -> Union[Array, Tuple[Array, Array]]:
        if not self._planned:
            raise RuntimeError(f"{self._op}: run: got no plan, expected plan() to be called first")
        scales = _options.scales(self._op, self._kv_layout, q, k, **scales)
        if sinks is not None:
            sinks = arrays_of(sinks).cast(sinks, "f32")
        return self._engine.run(
            q,
            k,
            v,
            out,
            lse,
            return_lse=return_lse,
            # A custom mask replaces the causal one.
            causal=self._causal and self._custom_mask is None,
            window_left=self._window_left if window_left is None else window_left,
            sm_scale=self._sm_scale,
            logits_soft_cap=self._logits_soft_cap or 0.0,
            lse_base=2,
            custom_mask=self._custom_mask,
            mask_indptr=self._mask_indptr,
            sinks=sinks,
            **scales,
        )

    def end_forward(self) -> None:
        """Does nothing; kept because callers of FlashInfer's first interface call it."""
