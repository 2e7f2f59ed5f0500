"""What attention plans of one kind have in common, as the library takes it."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from ._arrays import dtype_name
from .append import is_hnd
from .attention_variant import AttentionVariant


class KindValues(NamedTuple):
    """Arguments of the library's attention_kind, in its order."""

    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    head_dim_vo: int
    page_size: int
    is_hnd: bool
    q_dtype: str
    kv_dtype: str
    o_dtype: str
    causal: bool
    window_left: int
    fixed_split_size: int
    disable_split_kv: bool
    batch_invariant: bool
    checked: bool
    max_copy_bytes: int
    variant: Any


def kind_values(
    op: str,
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
) -> KindValues:
    """Defaults filled in."""
    head_dim_vo = head_dim_qk if head_dim_vo is None else head_dim_vo
    q_dtype = dtype_name(q_dtype)
    kv_dtype = q_dtype if kv_dtype is None else dtype_name(kv_dtype)
    if o_dtype is None:
        o_dtype = "bf16" if q_dtype == "f8e4m3" else q_dtype
    return KindValues(
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        head_dim_vo,
        page_size,
        is_hnd(kv_layout, op),
        q_dtype,
        kv_dtype,
        dtype_name(o_dtype),
        causal,
        window_left,
        fixed_split_size,
        disable_split_kv,
        batch_invariant,
        checked,
        max_copy_bytes,
        None if variant is None else variant._export(),
    )
