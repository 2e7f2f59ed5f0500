"""Batch attention over paged or ragged KV: decode, append, prefill and mixed batches."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple, Union

from ._arrays import (
    Array,
    arrays_of,
    export,
    export_output,
    export_tensor,
    stream_of,
    to_host_int32,
)
from ._attention_kind import KindValues, kind_values
from ._library import library
from .attention_variant import AttentionVariant, export_arguments
from .cascade import given_or_found
from .kv_pool import PageTable
from .merge import is_base_2

_plan = library.attention_plan
_run = library.attention_run


class BatchAttention:
    """Plans once per step, runs once per layer.

    ``device``: "cpu", "cuda" or "cuda:N". ``workspace``: u8 ``[bytes]`` on it, 16-byte aligned, in
    the place of memory of its own; concurrent runs must not share it.

    :meth:`plan` reads host arrays, may allocate, upload and compile; :meth:`plan_on_device` reads
    arrays on the device. :meth:`run` does none of these and never synchronizes, so that it can be
    captured in a CUDA graph (give it ``out``; call :meth:`reserve` before, so that plans to come
    keep what the graph holds). Rows that see no token give out 0 and lse -inf.
    """

    def __init__(self, device: str = "cpu", workspace: Optional[Array] = None) -> None:
        self._engine = library.attention_create(device)
        self._device = device
        self._arrays: Any = None  # the library of the last run, or of the workspace
        self._is_paged = False
        self._is_hnd = False
        self._head_dim_vo = 0
        self._o_dtype = "bf16"
        self._indices: Any = None  # read by run(): must live as long as the plan
        self._workspace: Any = None
        self._variant: Optional[AttentionVariant] = None
        self._kind: Any = None  # of the last plan, made from _kind_values
        self._kind_values: Any = None
        if workspace is not None:
            self.set_workspace(workspace)

    def set_workspace(self, workspace: Optional[Array]) -> None:
        """Replaces the workspace; None: memory of its own. Takes effect with the next plan."""
        library.attention_set_workspace(self._engine, export(workspace))
        self._workspace = workspace
        if workspace is not None and self._arrays is None:
            self._arrays = arrays_of(workspace)

    @property
    def workspace_bytes(self) -> int:
        """Bytes that the current plan uses, for partial results of split KV and copies of K and V.
        After :meth:`reserve`: what it has reserved for any plan."""
        return library.attention_workspace_bytes(self._engine)

    def reserve(
        self,
        *,
        max_batch_size: int,
        max_total_q: int,
        max_kv_entries: int,
        max_qo_len: int = 0,
        dry_run: bool = False,
        **kind: Any,
    ) -> int:
        """Makes room, here and now, for every plan within the limits; returns its bytes of
        workspace.

        max_total_q: rows of q of all requests; max_qo_len: of one (0: max_total_q), which decides
        the kernels that can serve, so give it for decoding;
        max_kv_entries: page ids of all requests (ragged: tokens). kind: as :meth:`plan` takes them,
        ``num_qo_heads`` to ``variant``; later plans give the same, except causal, window_left and
        checked. They keep the kernel, every address and every launch parameter, so that a run
        captured in a CUDA graph can be replayed after each; what does not fit is their error. The
        plan in force ends. dry_run: only compute the bytes.
        Raises as plan() does, and ValueError once a run has been captured.
        """
        made, _ = self._make_kind("attention.reserve", **kind)
        limits = (max_batch_size, max_total_q, max_qo_len, max_kv_entries)
        return library.attention_reserve(self._engine, dry_run, made, *limits)

    def plan_on_device(
        self,
        seq_lens: Array,
        block_tables: Optional[Array] = None,
        *,
        kv_indptr: Optional[Array] = None,
        kv_indices: Optional[Array] = None,
        qo_len: int = 1,
        stream: Optional[int] = None,
        **kind: Any,
    ) -> None:
        """Plans on the device, from arrays there: the host does not wait and learns no lengths.

        seq_lens: i32 ``[batch]``, KV tokens, 0 for padding; block_tables: i32
        ``[batch, max_pages]``, or kv_indptr ``[batch + 1]`` and kv_indices. They must stay where
        they are while runs of this plan are going on or can be replayed. Each request has qo_len
        rows of q. Captured in a CUDA graph together with runs, it plans anew at each replay. Needs
        :meth:`reserve` before; kind: as there.
        A request whose length is negative or more than its pages hold gets NaN, in out and lse;
        :meth:`check_plan` names it, and ``checked=True`` calls that.
        Raises ValueError, TypeError, and NotImplementedError where qo_len rows are more than a
        tile.
        """
        arrays = arrays_of(seq_lens)
        made, values = self._make_kind("attention.plan_on_device", **kind)
        stream = arrays.stream_on(self._device) if stream is None else stream
        tables = (seq_lens, block_tables, kv_indptr, kv_indices)
        library.attention_plan_on_device(
            self._engine, made, qo_len, *(export(table) for table in tables), stream
        )
        self._take_kind(values, kind.get("variant"), tables)

    def check_plan(self, stream: Optional[int] = None) -> None:
        """Waits for the stream; ValueError names the first request that did not fit the last plan
        the device made."""
        if stream is None:
            stream = 0 if self._arrays is None else self._arrays.stream_on(self._device)
        library.attention_check_plan(self._engine, stream)

    def _make_kind(self, op: str, **kind: Any) -> Tuple[Any, KindValues]:
        """What plans of one kind have in common, for the library; the last one is kept."""
        values = kind_values(op, **kind)
        if values.variant is None and values == self._kind_values:
            return self._kind, values
        made = library.attention_kind(*values)
        if values.variant is None:
            self._kind, self._kind_values = made, values
        return made, values

    def _take_kind(
        self, values: KindValues, variant: Optional[AttentionVariant], keep: Any
    ) -> None:
        """After a plan: what run() must know. keep: what must live as long as the plan."""
        self._head_dim_vo = values.head_dim_vo
        self._o_dtype = values.o_dtype
        self._is_paged = values.page_size > 0
        self._is_hnd = values.is_hnd
        self._variant = variant
        self._indices = keep

    def plan(
        self,
        qo_indptr: Any,
        kv_indptr: Any,
        kv_indices: Any = None,
        kv_last_page_len: Any = None,
        *,
        num_qo_heads: int,
        num_kv_heads: int,
        head_dim_qk: int,
        head_dim_vo: Optional[int] = None,
        page_size: int = 0,
        kv_layout: str = "NHD",
        q_dtype: Any = "bf16",
        kv_dtype: Any = None,
        o_dtype: Any = None,
        causal: bool = False,
        window_left: int = -1,
        fixed_split_size: int = 0,
        disable_split_kv: bool = False,
        batch_invariant: bool = False,
        checked: bool = False,
        max_copy_bytes: int = 256 << 20,
        variant: Optional[AttentionVariant] = None,
        dry_run: bool = False,
        stream: Optional[int] = None,
    ) -> int:
        """Plans a batch and returns the bytes of workspace it uses.

        qo_indptr: ``[batch + 1]`` rows of q; kv_indptr: ``[batch + 1]``, in pages for a paged cache
        and in tokens for ragged KV (``page_size`` 0); kv_indices: page ids; kv_last_page_len:
        ``[batch]``. Lists or integer arrays; arrays on a CUDA device are copied to the host, which
        waits for them, except kv_indices, which then stays where it is and must stay valid.
        kv_dtype, o_dtype: as q_dtype unless given (o_dtype of an fp8 q: bf16).
        causal and window_left here only improve the balance; run() decides. fixed_split_size: split
        KV at exact multiples of this many tokens. batch_invariant: a request's result does not
        depend, to the last bit, on what else is in the batch (KV is then split at multiples of
        fixed_split_size, 0: 1024). checked: verify page ids on the device too.
        max_copy_bytes: where it is faster, run() first copies K and V of prompts on small pages or
        of 8 bits to one piece of the workspace, of this many bytes at most; 0: never, as after
        :meth:`reserve`, for batch_invariant and in cascades.
        variant: a user's own attention, compiled here; its values go to each run.
        dry_run: only compute the bytes. stream: the one on which the runs will be (default: the
        current one of the library of the last run, the workspace or the page ids).
        Raises ValueError or TypeError for inconsistent arrays, NotImplementedError for a shape the
        device has no kernel for (on the CPU: any variant), MemoryError when the given workspace is
        too small, RuntimeError with the compiler's messages for a variant that does not compile. A
        failed plan leaves the last one.
        """
        op = "attention.plan"
        if (kv_indices is None) != (kv_last_page_len is None) or (kv_indices is None) != (
            page_size == 0
        ):
            raise ValueError(
                f"{op}: kv_indices, kv_last_page_len, page_size: got only some of them, expected "
                "all for a paged cache and none for ragged KV"
            )
        kind = {
            "num_qo_heads": num_qo_heads,
            "num_kv_heads": num_kv_heads,
            "head_dim_qk": head_dim_qk,
            "head_dim_vo": head_dim_vo,
            "page_size": page_size,
            "kv_layout": kv_layout,
            "q_dtype": q_dtype,
            "kv_dtype": kv_dtype,
            "o_dtype": o_dtype,
            "causal": causal,
            "window_left": window_left,
            "fixed_split_size": fixed_split_size,
            "disable_split_kv": disable_split_kv,
            "batch_invariant": batch_invariant,
            "checked": checked,
            "max_copy_bytes": max_copy_bytes,
            "variant": variant,
        }
        made, values = self._make_kind(op, **kind)
        indices = None if kv_indices is None else self._plan_indices(kv_indices)
        last_page_len = None
        if kv_last_page_len is not None:
            last_page_len = to_host_int32(kv_last_page_len, op, "kv_last_page_len")
        if stream is None:
            arrays = self._arrays or (arrays_of(indices) if indices is not None else None)
            stream = 0 if arrays is None else arrays.stream_on(self._device)
        workspace_bytes = _plan(
            self._engine,
            dry_run,
            made,
            export(to_host_int32(qo_indptr, op, "qo_indptr")),
            export(to_host_int32(kv_indptr, op, "kv_indptr")),
            export(indices),
            export(last_page_len),
            stream,
        )
        if not dry_run:
            self._take_kind(values, variant, indices)
        return workspace_bytes

    def plan_cascade(
        self,
        levels: Optional[Sequence[Sequence[Any]]] = None,
        *,
        qo_indptr: Any = None,
        table: Optional[PageTable] = None,
        min_shared_tokens: int = 256,
        max_levels: int = 2,
        dry_run: bool = False,
        stream: Optional[int] = None,
        **kind: Any,
    ) -> int:
        """Plans a batch of which groups of requests share leading pages, as one work list, and
        returns the bytes of workspace it uses.

        levels, first to last: (qo_indptr, kv_indptr, kv_indices, kv_last_page_len) of the level's
        groups, as :meth:`plan` takes them; the last one's are the requests with pages of their own,
        another's are runs of neighbours of the next level, without pages where nothing is shared.
        Without levels :func:`quire.find_cascade` finds them for qo_indptr and table, the requests'
        pages as :meth:`KvPool.table` has them; min_shared_tokens and max_levels are its. causal of
        a run is among tokens of the last level; rows see those of the others. The rest: as there.
        Raises as plan() does, and NotImplementedError after :meth:`reserve`, for batch_invariant,
        window_left and variant; run() does for window_left, alibi_slopes and custom_mask.
        """
        op = "attention.plan_cascade"
        made, values = self._make_kind(op, **kind)
        search = {"min_shared_tokens": min_shared_tokens, "max_levels": max_levels}
        levels = given_or_found(op, levels, qo_indptr, table, values.page_size, **search)
        names = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
        arrays = []
        for level in levels:
            if len(level) != len(names):
                raise ValueError(f"{op}: levels: got {len(level)} arrays, expected {len(names)}")
            arrays += [
                self._plan_indices(array)
                if name == "kv_indices"
                else to_host_int32(array, op, name)
                for name, array in zip(names, level)
            ]
        if stream is None:
            library_of = self._arrays or (arrays_of(arrays[2]) if arrays else None)
            stream = 0 if library_of is None else library_of.stream_on(self._device)
        tensors = [export_tensor(array) for array in arrays]
        used = library.attention_plan_cascade(self._engine, dry_run, made, tensors, stream)
        if not dry_run:
            self._take_kind(values, kind.get("variant"), arrays)
        return used

    def _plan_indices(self, kv_indices: Any) -> Array:
        """Page ids as i32: on the device they are on, or on the host."""
        if self._device != "cpu" and hasattr(kv_indices, "__dlpack_device__"):
            arrays = arrays_of(kv_indices)
            if arrays.device(kv_indices) != "cpu":
                return arrays.cast(kv_indices, "i32")
        return to_host_int32(kv_indices, "attention.plan", "kv_indices")

    def run(
        self,
        q: Array,
        k: Array,
        v: Array,
        out: Optional[Array] = None,
        lse: Optional[Array] = None,
        *,
        return_lse: bool = False,
        causal: bool = False,
        window_left: int = -1,
        sm_scale: Optional[float] = None,
        logits_soft_cap: float = 0.0,
        q_scale: float = 1.0,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
        q_scales: Optional[Array] = None,
        k_scales: Optional[Array] = None,
        v_scales: Optional[Array] = None,
        lse_base: Any = "e",
        custom_mask: Optional[Array] = None,
        mask_indptr: Optional[Array] = None,
        sinks: Optional[Array] = None,
        alibi_slopes: Optional[Array] = None,
        variant_args: Optional[Mapping[str, Any]] = None,
        stream: Optional[int] = None,
    ) -> Union[Array, Tuple[Array, Array]]:
        """Attention of q over the planned KV; returns out, or (out, lse) with return_lse.

        q: ``[total_q, num_qo_heads, head_dim_qk]``; k, v: the pools of a paged cache
        (``[pages, page_size, num_kv_heads, head_dim]`` for NHD, heads before page_size for HND) or
        ragged ``[total_kv, num_kv_heads, head_dim]`` (HND: heads first); any strides with a
        contiguous last dimension. out: ``[total_q, num_qo_heads, head_dim_vo]``; lse: f32
        ``[total_q, num_qo_heads]``, logarithm to lse_base (2 or "e").
        causal: row i sees kv tokens ``0 .. kv_len - qo_len + i``; window_left >= 0: and at most
        that many to the left of it. sm_scale: ``1 / sqrt(head_dim_qk)`` unless given.
        logits_soft_cap > 0: ``cap * tanh(logits / cap)``. q_scale, k_scale, v_scale: what the
        tensors are multiplied by, as fp8 ones want it; q_scales (f32 ``[num_qo_heads]``), k_scales
        and v_scales (``[num_kv_heads]``): a head's own, times those, only for tensors that are fp8.
        custom_mask: u8 bits, little-endian, request r from byte ``mask_indptr[r]`` (i32
        ``[batch + 1]``), bit ``row * kv_len + token``. sinks: f32 ``[num_qo_heads]``.
        alibi_slopes: f32 ``[num_qo_heads]``: adds ``slope * (token - (kv_len - qo_len + i))`` to
        the logits of row i, after the cap. variant_args: the planned variant's tensors and scalars
        by their names.
        Raises ValueError, TypeError before anything is launched.
        """
        if sm_scale is None:
            sm_scale = 0.0
        elif not sm_scale > 0.0:
            raise ValueError(f"attention.run: sm_scale: got {sm_scale}, expected > 0")
        self._arrays = arrays = arrays_of(q)
        op = "attention.run"
        new_out = out is None
        if new_out:
            out = arrays.empty((*q.shape[:2], self._head_dim_vo), self._o_dtype, q)
        new_lse = lse is None and return_lse
        if new_lse:
            lse = arrays.empty(q.shape[:2], "f32", q)
        stream = stream_of(q, stream)
        variant_tensors, variant_scalars = export_arguments(self._variant, variant_args)
        _run(
            self._engine,
            self._is_paged,
            self._is_hnd,
            arrays.export(q),
            export(k),
            export(v),
            export_output(out, op, "out"),
            export_output(lse, op, "lse"),
            causal,
            window_left,
            sm_scale,
            logits_soft_cap,
            q_scale,
            k_scale,
            v_scale,
            export(q_scales),
            export(k_scales),
            export(v_scales),
            is_base_2(lse_base, op),
            export(custom_mask),
            export(mask_indptr),
            export(sinks),
            export(alibi_slopes),
            variant_tensors,
            variant_scalars,
            stream,
        )
        if new_out:
            out = arrays.finish(out, stream)
        if not return_lse:
            return out
        return out, arrays.finish(lse, stream) if new_lse else lse
