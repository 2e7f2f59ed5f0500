"""Independent references in double precision, straight from the definitions."""

import math

import numpy as np


def attention(
    q,
    k,
    v,
    *,
    causal=False,
    window_left=-1,
    sm_scale=None,
    cap=0.0,
    mask=None,
    sink=None,
    alibi=None,
    logits_of=None,
    visible=None,
    softmax=True,
):
    """One request: q [m, hq, d], k [n, hkv, d], v [n, hkv, dv] -> out, lse (natural).

    logits_of(head, position, logits, tokens) and visible(head, position, tokens) are a custom
    variant; without softmax what logits_of gives are the weights.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    m, heads, dim = q.shape
    n = k.shape[0]
    group = heads // k.shape[1]
    scale = dim**-0.5 if sm_scale is None else sm_scale
    out = np.zeros((m, heads, v.shape[2]))
    lse = np.full((m, heads), -np.inf)
    for head in range(heads):
        for row in range(m):
            logits = k[:, head // group] @ q[row, head] * scale
            if cap > 0:
                logits = cap * np.tanh(logits / cap)
            last = n - m + row
            seen = np.ones(n, bool)
            tokens = np.arange(n)
            if alibi is not None:
                logits = logits + alibi[head] * (tokens - last)
            if logits_of is not None:
                logits = logits_of(head, last, logits, tokens)
            if visible is not None:
                seen &= visible(head, last, tokens)
            if causal:
                seen &= tokens <= last
            if window_left >= 0:
                seen &= tokens >= last - window_left
            if mask is not None:
                seen &= mask[row]
            if not seen.any():
                if sink is not None:
                    lse[row, head] = sink[head]
                continue
            if not softmax:
                out[row, head] = logits[seen] @ v[seen, head // group]
                continue
            terms = np.exp(logits[seen])
            total = terms.sum() + (0.0 if sink is None else np.exp(sink[head]))
            out[row, head] = terms @ v[seen, head // group] / total
            lse[row, head] = np.log(total)
    return out, lse


class PagedCase:
    """A batch over a paged cache with shuffled pages; unused pages and page tails are NaN."""

    def __init__(self, qo_lens, kv_lens, *, heads, kv_heads, dim, page_size, layout="NHD", seed=0):
        rng = np.random.default_rng(seed)
        self.qo_lens, self.kv_lens, self.page_size = qo_lens, kv_lens, page_size
        self.layout = layout
        counts = [-(-n // page_size) for n in kv_lens]
        num_pages = sum(counts) + 3
        pages = rng.permutation(num_pages)
        self.qo_indptr = np.concatenate([[0], np.cumsum(qo_lens)]).astype(np.int32)
        self.kv_indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self.kv_indices = pages[: sum(counts)].astype(np.int32)
        tails = [n - (c - 1) * page_size if c else 0 for n, c in zip(kv_lens, counts)]
        self.kv_last_page_len = np.array(tails, np.int32)
        self.q = rng.standard_normal((sum(qo_lens), heads, dim)).astype(np.float32)
        self.k = [rng.standard_normal((n, kv_heads, dim)).astype(np.float32) for n in kv_lens]
        self.v = [rng.standard_normal((n, kv_heads, dim)).astype(np.float32) for n in kv_lens]
        shape = (num_pages, page_size, kv_heads, dim)
        self.k_cache = np.full(shape, np.nan, np.float32)
        self.v_cache = np.full(shape, np.nan, np.float32)
        for r in range(len(kv_lens)):
            for token in range(kv_lens[r]):
                page = self.kv_indices[self.kv_indptr[r] + token // page_size]
                self.k_cache[page, token % page_size] = self.k[r][token]
                self.v_cache[page, token % page_size] = self.v[r][token]
        if layout == "HND":
            self.k_cache = np.ascontiguousarray(self.k_cache.swapaxes(1, 2))
            self.v_cache = np.ascontiguousarray(self.v_cache.swapaxes(1, 2))

    def table(self):
        return self.kv_indptr, self.kv_indices, self.kv_last_page_len

    def expected(self, masks=None, **options):
        parts = []
        for r in range(len(self.qo_lens)):
            q = self.q[self.qo_indptr[r] : self.qo_indptr[r + 1]]
            mask = None if masks is None else masks[r]
            parts.append(attention(q, self.k[r], self.v[r], mask=mask, **options))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def rms_norm(x, weight, eps):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * np.asarray(weight, np.float64)


def layer_norm(x, gamma, beta, eps):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return centred / scale * np.asarray(gamma, np.float64) + np.asarray(beta, np.float64)


FP8_LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


def check_quantized(out, values, dtype, scale, slack=4e-6):
    """out is a nearest fp8 number of values / scale; beyond the largest one it is that."""
    out, exact = np.asarray(out, np.float64), np.asarray(values, np.float64) / scale
    largest = FP8_LARGEST[dtype]
    half_step, denormal = (2**-3, 2**-17) if largest > 448 else (2**-4, 2**-10)
    clamped = np.clip(exact, -largest, largest)
    bound = np.maximum(np.abs(clamped) * half_step, denormal) * (1 + 1e-6) + np.abs(exact) * slack
    assert out.shape == exact.shape
    assert (np.abs(out - clamped) <= bound + 1e-9).all()


def silu_and_mul(x):
    x = np.asarray(x, np.float64)
    gate, up = np.split(x, 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up


def gelu_and_mul(x):
    gate, up = np.split(np.asarray(x, np.float64), 2, axis=-1)
    return gate / 2 * (1 + np.vectorize(math.erf)(gate / np.sqrt(2))) * up


def gelu_tanh_and_mul(x):
    gate, up = np.split(np.asarray(x, np.float64), 2, axis=-1)
    return gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up


def rope(x, positions, *, theta=1e4, scale=1.0, rotary_dim=None, interleave=False, llama31=None):
    x = np.asarray(x, np.float64).copy()
    dim = rotary_dim or x.shape[-1]
    frequency = theta ** (-np.arange(0, dim, 2) / dim)
    if llama31 is None:
        frequency = frequency / scale
    else:
        low, high, old = llama31
        smooth = np.clip((old * frequency / (2 * np.pi) - low) / (high - low), 0, 1)
        frequency = (1 - smooth) * frequency / scale + smooth * frequency
    angle = np.asarray(positions)[:, None, None] * frequency
    cos, sin = np.cos(angle), np.sin(angle)
    if interleave:
        first, second = slice(0, dim, 2), slice(1, dim, 2)
    else:
        first, second = slice(0, dim // 2), slice(dim // 2, dim)
    a, b = x[..., first].copy(), x[..., second].copy()
    x[..., first], x[..., second] = a * cos - b * sin, b * cos + a * sin
    return x


def merge(v, s, base=np.e):
    """v [n, states, heads, d], s [n, states, heads] -> v, s."""
    s = np.asarray(s, np.float64) * np.log(base)
    top = s.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0)
    weight = np.exp(s - safe[:, None])
    total = weight.sum(axis=1)
    merged = (weight[..., None] * np.asarray(v, np.float64)).sum(axis=1)
    merged = np.where(total[..., None] > 0, merged / np.maximum(total, 1e-300)[..., None], 0)
    with np.errstate(divide="ignore"):
        return merged, (np.log(total) + safe) / np.log(base)


def top_set(probs, *, top_k=None, top_p=None, min_p=None, joint=False):
    """Indices of the tokens that a row may give; ties by the lowest index."""
    order = np.argsort(-probs, kind="stable")
    kept = np.ones(len(probs), bool)
    if top_k is not None and 0 < top_k < len(probs):
        kept &= np.isin(np.arange(len(probs)), order[:top_k])
    if top_p is not None:
        mass = probs if joint or top_k is None else np.where(kept, probs, 0)
        cumulative = np.cumsum(mass[order].astype(np.float64))
        count = int(np.searchsorted(cumulative, top_p * cumulative[-1] * (1 - 1e-7))) + 1
        kept &= np.isin(np.arange(len(probs)), order[:count])
    if min_p is not None:
        kept &= probs >= np.float32(min_p) * probs.max()
    return set(np.flatnonzero(kept & (probs > 0)).tolist())
