"""FlashInfer's plan arguments as those of :meth:`quire.BatchAttention.plan`."""

from __future__ import annotations

import warnings
from typing import Any, Dict, Optional, Tuple

import numpy as np

from .._arrays import Array, dtype_name
from . import _options

_POSITIONAL = (
    "pos_encoding_mode",
    "window_left",
    "logits_soft_cap",
    "q_data_type",
    "kv_data_type",
    "o_data_type",
    "data_type",
    "sm_scale",
    "rope_scale",
    "rope_theta",
    "non_blocking",
    "block_tables",
    "seq_lens",
    "fixed_split_size",
    "disable_split_kv",
    "q_len_per_req",
)
"""Arguments of plan() after page_size, in the order of FlashInfer's old positional form."""


def merge_positional(op: str, values: tuple, kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Keywords of a plan() that was given options by position, with a DeprecationWarning."""
    if len(values) > len(_POSITIONAL):
        got, expected = 7 + len(values), 7 + len(_POSITIONAL)
        raise TypeError(f"{op}.plan: got {got} positional arguments, expected at most {expected}")
    merged = dict(zip(_POSITIONAL, values))
    for name in merged:
        if name in kwargs:
            raise TypeError(f"{op}.plan: {name}: got it by position and by name")
    warnings.warn(
        f"{op}.plan: arguments after page_size are keywords; by position is deprecated",
        DeprecationWarning,
        stacklevel=3,
    )
    return {**merged, **kwargs}


def resolve_dtypes(
    q_data_type: Any, kv_data_type: Any, o_data_type: Any, data_type: Any = None
) -> Dict[str, str]:
    """q defaults to data_type and then float16, kv to data_type and then q, o to q."""
    q = data_type if q_data_type is None else q_data_type
    kv = data_type if kv_data_type is None else kv_data_type
    q = "f16" if q is None else dtype_name(q)
    return {
        "q_dtype": q,
        "kv_dtype": q if kv is None else dtype_name(kv),
        "o_dtype": q if o_data_type is None else dtype_name(o_data_type),
    }


def decode_plan_arguments(
    op: str,
    table: Tuple[Array, Array, Array],
    shape: Tuple[int, int, int, int],
    *,
    window_left: int,
    fixed_split_size: Optional[int],
    disable_split_kv: bool,
    q_len_per_req: int,
    **others: Any,
) -> Dict[str, Any]:
    """`table`: indptr, indices, last_page_len; `shape`: num_qo_heads, num_kv_heads, head_dim,
    page_size."""
    indptr, indices, last_page_len = table
    num_qo_heads, num_kv_heads, head_dim, page_size = shape
    if q_len_per_req < 1:
        raise ValueError(f"{op}: q_len_per_req: got {q_len_per_req}, expected >= 1")
    if page_size < 1:
        raise ValueError(f"{op}: page_size: got {page_size}, expected >= 1")
    batch_size = len(last_page_len)
    if len(indptr) != batch_size + 1:
        raise ValueError(
            f"{op}: indptr: got {len(indptr)} elements, expected {batch_size + 1}, one "
            f"more than last_page_len ({batch_size})"
        )
    return {
        "qo_indptr": np.arange(batch_size + 1, dtype=np.int32) * np.int32(q_len_per_req),
        "kv_indptr": indptr,
        "kv_indices": indices,
        "kv_last_page_len": last_page_len,
        "num_qo_heads": num_qo_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim_qk": head_dim,
        "page_size": page_size,
        **others,
        "causal": q_len_per_req > 1,
        "window_left": window_left,
        "fixed_split_size": _options.split_size_tokens(fixed_split_size, page_size),
        "disable_split_kv": disable_split_kv,
    }
