"""The operators around attention that bench_elementwise.py times, each beside the same in torch.

An operator makes its inputs for some rows, runs in Quire and in torch, says what the result must be
in double and how many bytes it has to move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import quire
import torch
from torch.nn import functional

DEVICE = "cuda"
EPS = 1e-6
BF16_ERROR, FP8_ERROR = 4e-3, 4e-2  # relative, of rounding once
Tensors = tuple[torch.Tensor, ...]


@dataclass
class Op:
    name: str
    shape: dict[str, Any]
    make: Callable[[int], Tensors]  # of some rows; new numbers every time
    quire: Callable[..., torch.Tensor | Tensors]
    torch: Callable[..., torch.Tensor | Tensors]
    exact: Callable[..., torch.Tensor]
    values: Callable[[Any], torch.Tensor]  # of a result, in double
    bytes_per_row: float
    error: float
    flashinfer: Callable[..., Any] | None = None  # of the module and the inputs


def randn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def double(result: torch.Tensor) -> torch.Tensor:
    return result.double()


def scaled_rows(result: Tensors) -> torch.Tensor:
    return result[0].double() * result[1].double().reshape(-1, 1)


def scaled_groups(result: Tensors) -> torch.Tensor:
    out, scales = result
    return out.double() * scales.double().repeat_interleave(128, -1)


def to_fp8(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn)


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight


def per_token(x: torch.Tensor) -> Tensors:
    scale = x.abs().amax(-1, keepdim=True).float().clamp_min(1e-10) / 448
    return to_fp8(x.float(), scale), scale


def per_group(x: torch.Tensor) -> Tensors:
    groups = x.float().unflatten(-1, (-1, 128))
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-10) / 448
    return to_fp8(groups, scale).flatten(-2), scale.squeeze(-1)


def norm_ops(hidden: int) -> list[Op]:
    weight = randn(hidden)
    gamma, beta = (torch.randn(hidden, device=DEVICE) for _ in range(2))
    shape = {"hidden": hidden, "dtype": "bf16"}

    def make(rows: int) -> Tensors:
        return (randn(rows, hidden),)

    def exact_layer(x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x.double(), (hidden,), gamma.double(), beta.double(), EPS)

    return [
        Op(
            "rms_norm",
            shape,
            make,
            lambda x: quire.rms_norm(x, weight, EPS),
            lambda x: functional.rms_norm(x, (hidden,), weight, EPS),
            lambda x: rms(x.double(), weight.double()),
            double,
            4 * hidden,
            BF16_ERROR,
            lambda fi, x: fi.norm.rmsnorm(x, weight, EPS),
        ),
        Op(
            "layer_norm",
            shape,
            make,
            lambda x: quire.layer_norm(x, gamma, beta, EPS),
            lambda x: functional.layer_norm(x.float(), (hidden,), gamma, beta, EPS).bfloat16(),
            exact_layer,
            double,
            4 * hidden,
            BF16_ERROR,
            lambda fi, x: fi.norm.layernorm(x, gamma, beta, EPS),
        ),
        Op(
            "rms_norm_quant_per_token",
            shape,
            make,
            lambda x: quire.rms_norm_quant(x, weight, None, EPS),
            lambda x: per_token(rms(x.float(), weight.float())),
            lambda x: rms(x.double(), weight.double()),
            scaled_rows,
            3 * hidden,
            FP8_ERROR,
        ),
    ]


def activation_ops(hidden: int) -> list[Op]:
    shape = {"hidden": hidden, "dtype": "bf16"}

    def make(rows: int) -> Tensors:
        return (randn(rows, 2 * hidden),)

    def gated(act: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return act(x[:, :hidden]) * x[:, hidden:]

    def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(x, approximate="tanh")

    ops = []
    for name, act in (
        ("silu_and_mul", functional.silu),
        ("gelu_and_mul", functional.gelu),
        ("gelu_tanh_and_mul", gelu_tanh),
    ):
        ops.append(
            Op(
                name,
                shape,
                make,
                getattr(quire, name),
                lambda x, act=act: gated(act, x),
                lambda x, act=act: gated(act, x.double()),
                double,
                6 * hidden,
                2 * BF16_ERROR,  # torch rounds the activation to bf16 on the way
                lambda fi, x, name=name: getattr(fi.activation, name)(x),
            )
        )
    ops.append(
        Op(
            "silu_and_mul_quant_per_group",
            shape,
            make,
            quire.silu_and_mul_quant,
            lambda x: per_group(gated(functional.silu, x.float())),
            lambda x: gated(functional.silu, x.double()),
            scaled_groups,
            5 * hidden,
            FP8_ERROR,
        )
    )
    return ops


def quantize_ops(hidden: int) -> list[Op]:
    shape = {"hidden": hidden, "dtype": "bf16"}
    scale = torch.tensor([0.01], device=DEVICE)

    def make(rows: int) -> Tensors:
        return (randn(rows, hidden),)

    def make_fp8(rows: int) -> Tensors:
        return quire.quantize_fp8(randn(rows, hidden), block=(1, 128))

    def restored(x: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return (x.float().unflatten(-1, (-1, 128)) * scales[..., None]).flatten(-2)

    def given(result: Tensors | torch.Tensor) -> torch.Tensor:
        out = result[0] if isinstance(result, tuple) else result
        return out.double() * 0.01

    ops = [
        Op(
            "quantize_fp8_per_tensor",
            shape,
            make,
            lambda x: quire.quantize_fp8(x, scale),
            lambda x: to_fp8(x.float(), scale),
            lambda x: x.double(),
            given,
            3 * hidden,
            FP8_ERROR,
        ),
        Op(
            "dequantize_fp8_per_group",
            shape,
            make_fp8,
            lambda x, s: quire.dequantize_fp8(x, s, block=(1, 128)),
            lambda x, s: restored(x, s).bfloat16(),
            lambda x, s: restored(x, s).double(),
            double,
            3 * hidden,
            BF16_ERROR,
        ),
    ]
    for name, block, peer, values in (
        ("quantize_fp8_per_token", (1, 0), per_token, scaled_rows),
        ("quantize_fp8_per_group", (1, 128), per_group, scaled_groups),
    ):
        ops.append(
            Op(
                name,
                shape,
                make,
                lambda x, block=block: quire.quantize_fp8(x, block=block),
                peer,
                lambda x: x.double(),
                values,
                3 * hidden,
                FP8_ERROR,
            )
        )
    return ops


def nvfp4_ops(head_dim: int) -> list[Op]:
    """A row is a head of a token."""
    shape = {"head_dim": head_dim, "dtype": "bf16"}
    scale = torch.tensor([0.01], device=DEVICE)
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], device=DEVICE)
    codes = torch.cat([magnitudes, -magnitudes])
    edges = (magnitudes[1:] + magnitudes[:-1]) / 2

    def make(rows: int) -> Tensors:
        return (randn(rows, head_dim),)

    def make_nvfp4(rows: int) -> Tensors:
        return quire.nvfp4_kv_quantize(randn(rows, head_dim), scale)

    def dequantize(data: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        pairs = torch.stack([data & 15, data >> 4], -1).flatten(-2)
        blocks = scales.view(torch.float8_e4m3fn).float() * scale
        return codes[pairs.int()] * blocks.repeat_interleave(16, -1)

    def quantize(x: torch.Tensor) -> Tensors:
        blocks = x.float().unflatten(-1, (-1, 16))
        scales = (blocks.abs().amax(-1) / (6 * scale)).to(torch.float8_e4m3fn)
        inverse = torch.where(scales.float() > 0, 1 / (scales.float() * scale), 0.0)
        scaled = (blocks * inverse[..., None]).flatten(-2)
        nibbles = torch.bucketize(scaled.abs(), edges) + 8 * (scaled < 0)
        return (nibbles[:, ::2] + 16 * nibbles[:, 1::2]).byte(), scales.view(torch.uint8)

    def exact(x: torch.Tensor) -> torch.Tensor:
        return dequantize(*quantize(x)).double()

    return [
        Op(
            "nvfp4_kv_dequantize",
            shape,
            make_nvfp4,
            lambda d, s: quire.nvfp4_kv_dequantize(d, s, scale),
            lambda d, s: dequantize(d, s).bfloat16(),
            lambda d, s: dequantize(d, s).double(),
            double,
            2.5625 * head_dim,
            BF16_ERROR,
            lambda peer, d, s: peer.nvfp4_kv_dequantize(d, s, scale),
        ),
        # The largest error is that of a code beside a boundary: one more or less.
        Op(
            "nvfp4_kv_quantize",
            shape,
            make,
            lambda x: quire.nvfp4_kv_quantize(x, scale),
            quantize,
            exact,
            lambda result: dequantize(*result).double(),
            2.5625 * head_dim,
            FP8_ERROR,
        ),
    ]


def rope_op(heads: int, kv_heads: int, dim: int) -> Op:
    angle = torch.arange(8192)[:, None] * 1e4 ** (-torch.arange(0, dim, 2) / dim)
    table = torch.cat([angle.cos(), angle.sin()], 1).float().to(DEVICE)

    def make(rows: int) -> Tensors:
        pos_ids = torch.randint(0, 8192, (rows,), device=DEVICE, dtype=torch.int32)
        return randn(rows, heads, dim), randn(rows, kv_heads, dim), pos_ids

    def turned(x: torch.Tensor, pos_ids: torch.Tensor) -> torch.Tensor:
        cos, sin = table[pos_ids.long()][:, None].to(x.dtype).chunk(2, -1)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def both(q: torch.Tensor, k: torch.Tensor, pos_ids: torch.Tensor) -> Tensors:
        return turned(q, pos_ids), turned(k, pos_ids)

    def joined(result: Tensors) -> torch.Tensor:
        return torch.cat([x.double() for x in result], 1)

    def peer(q: torch.Tensor, k: torch.Tensor, pos_ids: torch.Tensor) -> Tensors:
        q_out, k_out = both(q.float(), k.float(), pos_ids)
        return q_out.bfloat16(), k_out.bfloat16()

    def flashinfer(fi: Any, q: torch.Tensor, k: torch.Tensor, pos_ids: torch.Tensor) -> Tensors:
        flat = (x.flatten(1) for x in (q, k))
        out = fi.rope.apply_rope_with_cos_sin_cache(pos_ids, *flat, dim, table)
        return tuple(x.unflatten(1, (-1, dim)) for x in out)

    return Op(
        "apply_rope_cos_sin_cache",
        {"heads": f"{heads}/{kv_heads}", "head_dim": dim, "dtype": "bf16"},
        make,
        lambda q, k, pos_ids: quire.apply_rope_pos_ids(q, k, pos_ids, cos_sin_cache=table),
        peer,
        lambda q, k, pos_ids: joined(both(q.double(), k.double(), pos_ids)),
        joined,
        4 * (heads + kv_heads) * dim,
        BF16_ERROR,
        flashinfer,
    )


def append_op(kv_heads: int, dim: int, fp8: bool) -> Op:
    """To pages of 16 tokens by a slot mapping, in place; the cache is part of the inputs."""
    dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
    scale = 0.02 if fp8 else 1.0

    def make(rows: int) -> Tensors:
        pages = -(-rows // 16)
        caches = (torch.zeros(pages, 16, kv_heads, dim, device=DEVICE).to(dtype) for _ in "kv")
        slots = torch.randperm(pages * 16, device=DEVICE)[:rows]
        return randn(rows, kv_heads, dim), randn(rows, kv_heads, dim), *caches, slots

    def own(k: torch.Tensor, v: torch.Tensor, kc: torch.Tensor, vc: torch.Tensor, s: torch.Tensor):
        scales = {"k_scale": scale, "v_scale": scale}
        quire.append_paged_kv(k, v, None, None, kc, vc, slot_mapping=s, **scales)
        return kc, vc, s

    def peer(k: torch.Tensor, v: torch.Tensor, kc: torch.Tensor, vc: torch.Tensor, s: torch.Tensor):
        for rows, cache in ((k, kc), (v, vc)):
            stored = to_fp8(rows.float(), torch.tensor(scale)).view(torch.uint8) if fp8 else rows
            flat = cache.view(torch.uint8).flatten(0, 1) if fp8 else cache.flatten(0, 1)
            flat.index_copy_(0, s, stored)
        return kc, vc, s

    def values(result: Tensors) -> torch.Tensor:
        kc, vc, s = result
        return torch.cat([x.flatten(0, 1)[s].double() * scale for x in (kc, vc)])

    return Op(
        "append_paged_kv_fp8" if fp8 else "append_paged_kv",
        {"kv_heads": kv_heads, "head_dim": dim, "dtype": "bf16"},
        make,
        own,
        peer,
        lambda k, v, *_: torch.cat([k.double(), v.double()]),
        values,
        2 * kv_heads * dim * (3 if fp8 else 4),
        FP8_ERROR if fp8 else 1e-9,
    )


def all_ops() -> list[tuple[Op, int]]:
    """Every operator, and the rows at which it moves 64 MB or more."""
    return [
        *((op, 8192) for op in norm_ops(4096)),
        *((op, 8192) for op in activation_ops(14336)),
        *((op, 8192) for op in quantize_ops(8192)),
        *((op, 262144) for op in nvfp4_ops(128)),
        (rope_op(32, 8, 128), 8192),
        (append_op(8, 128, False), 32768),
        (append_op(8, 128, True), 32768),
    ]


def small_ops() -> list[Op]:
    """For 128 rows of 4096."""
    return [
        *norm_ops(4096),
        *activation_ops(4096),
        *quantize_ops(4096),
        *nvfp4_ops(4096),
        rope_op(32, 8, 128),
        append_op(8, 128, False),
        append_op(8, 128, True),
    ]
