import subprocess
import sys

import numpy as np
import pytest
import quire
import quire.flashinfer as fi
import reference

RNG = np.random.default_rng(12)


def randn(torch, *shape):
    return torch.from_numpy(RNG.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("form", ["tensor", "tuple"])
def test_append(torch, layout, form):
    shape = (6, 2, 4, 2, 8) if layout == "NHD" else (6, 2, 2, 4, 8)
    cache = torch.zeros(shape)
    key, value = randn(torch, 5, 2, 8), randn(torch, 5, 2, 8)
    indptr = torch.tensor([0, 2, 5], dtype=torch.int32)
    table = [torch.tensor(x, dtype=torch.int32) for x in ([3, 0, 5], [0, 2, 3], [2, 3])]
    lens = fi.page.get_seq_lens(table[1], table[2], 4)
    np.testing.assert_array_equal(lens, [6, 3])
    ids, positions = fi.page.get_batch_indices_positions(indptr, lens, 5)
    np.testing.assert_array_equal(ids, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(positions, [4, 5, 0, 1, 2])
    given = cache if form == "tensor" else (cache[:, 0], cache[:, 1])
    fi.append_paged_kv_cache(key, value, ids.long(), positions, given, *table, layout)
    pools = cache if layout == "NHD" else cache.transpose(2, 3)
    expected = torch.zeros(6, 2, 4, 2, 8)
    for which, rows in enumerate((key, value)):
        expected[0, which, 0], expected[0, which, 1] = rows[0], rows[1]
        expected[5, which, :3] = rows[2:]
    np.testing.assert_array_equal(pools, expected)


def test_positions_into_given_tensors(torch):
    indptr = torch.tensor([0, 2, 5], dtype=torch.int64)
    out = torch.empty(7, dtype=torch.int32), torch.empty(7, dtype=torch.int32)
    result = fi.get_batch_indices_positions(indptr, torch.tensor([6, 3]), 7, *out)
    assert result[0] is out[0] and result[1] is out[1]
    np.testing.assert_array_equal(out[0], [0, 0, 1, 1, 1, -1, -1])
    np.testing.assert_array_equal(out[1], [4, 5, 0, 1, 2, 0, 0])


def test_append_without_page_dimension(torch):
    pools = torch.zeros(6, 2, 8), torch.zeros(6, 2, 8)
    rows = randn(torch, 1, 2, 8)
    ints = [torch.tensor(x, dtype=torch.int32) for x in ([0], [1], [5, 3], [0, 2], [1])]
    fi.append_paged_kv_cache(rows, rows, *ints[:2], pools, *ints[2:])
    np.testing.assert_array_equal(pools[0][3], rows[0])


def test_merge(torch, close):
    v, s = randn(torch, 3, 4, 2, 16), randn(torch, 3, 4, 2) * 4
    s[0, 1] = -float("inf")
    expected = reference.merge(v.numpy(), s.numpy(), 2.0)
    for out, want in zip(fi.merge_states(v, s), expected):
        close(out.numpy(), want, 1e-6)
    pair = reference.merge(v[:, :2].numpy(), s[:, :2].numpy(), 2.0)
    merged = fi.merge_state(v[:, 0], s[:, 0].double(), v[:, 1], s[:, 1])
    for out, want in zip(merged, pair):
        close(out.numpy(), want, 1e-6)
    v_a, s_a = v[:, 0].clone(), s[:, 0].clone()
    fi.merge_state_in_place(v_a, s_a, v[:, 1], s[:, 1])
    close(v_a.numpy(), pair[0], 1e-6)
    close(s_a.numpy(), pair[1], 1e-6)
    with pytest.raises(TypeError, match="merge_state_in_place: s"):
        fi.merge_state_in_place(v_a, s_a.half(), v[:, 1], s[:, 1])


def test_gemma_and_layer_norm(torch, close):
    x, residual, weight, beta = (randn(torch, *s) for s in ((5, 32), (5, 32), (32,), (32,)))
    more = weight.numpy() + 1
    close(fi.gemma_rmsnorm(x, weight).numpy(), reference.rms_norm(x.numpy(), more, 1e-6), 1e-6)
    half = fi.layernorm(x.bfloat16(), weight, beta)
    exact = reference.layer_norm(x.bfloat16().double(), weight, beta, 1e-6)
    close(half.double().numpy(), exact, 1e-2)
    total = (x + residual).numpy().copy()
    fi.gemma_fused_add_rmsnorm(x, residual, weight)
    close(x.numpy(), reference.rms_norm(total, more, 1e-6), 1e-6)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_quantized_norms(torch, dtype):
    x, residual, weight, beta = (randn(torch, *s) for s in ((5, 32), (5, 32), (32,), (32,)))
    out = torch.empty(5, 32, dtype=getattr(torch, dtype))
    exact = reference.rms_norm(x.numpy(), weight.numpy(), 1e-6)
    for scale in (0.03, torch.tensor([0.03])):
        assert fi.norm.rmsnorm_quant(out, x, weight, scale) is None
        reference.check_quantized(out.double().numpy(), exact, dtype, 0.03)
    fi.norm.layernorm_quant(out, x, weight, beta, torch.tensor(0.03))
    exact = reference.layer_norm(x.numpy(), weight.numpy(), beta.numpy(), 1e-6)
    reference.check_quantized(out.double().numpy(), exact, dtype, 0.03)
    total = (x + residual).numpy().copy()
    fi.norm.fused_add_rmsnorm_quant(out, x, residual, weight, torch.tensor([0.05]))
    np.testing.assert_array_equal(residual.numpy(), total)
    exact = reference.rms_norm(total, weight.numpy(), 1e-6)
    reference.check_quantized(out.double().numpy(), exact, dtype, 0.05)


@pytest.mark.parametrize("mla", [False, True])
def test_rope_quantize_append(torch, mla):
    heads = 1 if mla else 2
    shapes = [(3, 4, 16), (3, heads, 16), (3, 4, 8), (3, heads, 8), (3, heads, 24)]
    q_rope, k_rope, q_nope, k_nope, v = (randn(torch, *shape).bfloat16() for shape in shapes)
    if mla:
        k_rope, k_nope, v = k_rope[:, 0], k_nope[:, 0], None
    frequency = 1e4 ** (-np.arange(0, 16, 2) / 16)
    angle = np.arange(32)[:, None] * frequency
    table = torch.from_numpy(np.concatenate([np.cos(angle), np.sin(angle)], 1)).float()
    pos_ids = torch.tensor([3, 9, 30])
    quantize = fi.rope.mla_rope_quantize_fp8 if mla else fi.rope.rope_quantize_fp8
    parts = quantize(q_rope, k_rope, q_nope, k_nope, table, pos_ids, quant_scale_kv=2.0)
    turned = reference.rope(q_rope.float().numpy(), pos_ids.numpy())
    reference.check_quantized(parts[0].double().numpy(), turned, "float8_e4m3fn", 1, 1e-3)
    exact = k_nope.double().numpy()
    reference.check_quantized(parts[3].double().numpy(), exact, "float8_e4m3fn", 0.5, 1e-3)

    shapes = ((4, 2, 8), (4, 2, 16)) if mla else ((4, 2, 2, 24), (4, 2, 2, 24))
    caches = tuple(torch.zeros(shape).to(torch.float8_e4m3fn) for shape in shapes)
    ints = [torch.tensor(x, dtype=torch.int32) for x in ([3, 0], [0, 1, 2], [0, 1, 1], [1, 0, 1])]
    out = fi.rope.rope_quantize_fp8_append_paged_kv_cache(
        q_rope, k_rope, q_nope, k_nope, v, table, pos_ids, caches, *ints,
        quant_scale_kv=2.0, page_size=2,
    )  # fmt: skip
    for got, want in zip(out, (parts[0], parts[2])):
        np.testing.assert_array_equal(got.float(), want.float())
    k = parts[3] if mla else torch.cat([parts[1].float(), parts[3].float()], -1)
    flat = caches[0].float().reshape(8, *k.shape[1:])
    np.testing.assert_array_equal(flat[[7, 0, 1]], k.float())
    with pytest.raises(ValueError, match="page_size: got 16, expected 2"):
        fi.rope.rope_quantize_fp8_append_paged_kv_cache(
            q_rope, k_rope, q_nope, k_nope, v, table, pos_ids, caches, *ints
        )


def test_rope_with_cache(torch, close):
    angle = np.arange(16)[:, None] * 1e4 ** (-np.arange(0, 8, 2) / 8)
    table = torch.from_numpy(np.concatenate([np.cos(angle), np.sin(angle)], 1)).float()
    q, k = randn(torch, 3, 2 * 8), randn(torch, 3, 8)
    pos_ids = torch.tensor([1, 4, 15])
    want = [reference.rope(x.reshape(3, -1, 8), pos_ids, interleave=True) for x in (q, k)]
    out = fi.apply_rope_with_cos_sin_cache(pos_ids, q, k, 8, table, is_neox=False)
    fi.apply_rope_with_cos_sin_cache_inplace(pos_ids, q, k, 8, table, is_neox=False)
    for got, also, exact in zip(out, (q, k), want):
        close(got.numpy(), exact.reshape(3, -1), 1e-5)
        np.testing.assert_array_equal(got, also)


def test_norm_and_activation(torch, close):
    x, weight = randn(torch, 5, 32), randn(torch, 32)
    expected = reference.rms_norm(x.numpy(), weight.numpy(), 1e-6)
    close(fi.rmsnorm(x, weight).numpy(), expected, 1e-6)
    out = torch.empty_like(x)
    assert fi.rmsnorm(x, weight, 1e-6, out, enable_pdl=True) is out
    residual = randn(torch, 5, 32)
    total = (x + residual).double().numpy()
    fi.fused_add_rmsnorm(x, residual, weight, 1e-5)
    close(residual.numpy(), total, 1e-6)
    close(x.numpy(), reference.rms_norm(total, weight.numpy(), 1e-5), 1e-6)
    gate = randn(torch, 5, 32)
    close(fi.silu_and_mul(gate).numpy(), reference.silu_and_mul(gate.numpy()), 1e-6)


@pytest.mark.parametrize("name", ["apply_rope_pos_ids", "apply_llama31_rope_pos_ids"])
@pytest.mark.parametrize("interleave", [False, True])
def test_rope(torch, close, name, interleave):
    q, k = randn(torch, 4, 3, 64), randn(torch, 4, 1, 64)
    positions = torch.tensor([0, 5, 900, 17])
    meaning = {"interleave": interleave}
    if "llama31" in name:
        meaning.update(theta=5e5, scale=8.0, llama31=(1, 4, 8192))
    want = [reference.rope(x.numpy(), positions.numpy(), **meaning) for x in (q, k)]
    for x, y in zip(getattr(fi, name)(q, k, positions, interleave=interleave), want):
        close(x.numpy(), y, 1e-4)
    getattr(fi, name + "_inplace")(q, k, positions, interleave=interleave)
    for x, y in zip((q, k), want):
        close(x.numpy(), y, 1e-4)


def probs(torch, rows=6, vocab=20):
    return torch.softmax(randn(torch, rows, vocab) * 2, dim=-1)


CALLS = {
    "sampling_from_probs": ((), {}),
    "top_k_sampling_from_probs": ((4,), {"top_k": 4}),
    "top_p_sampling_from_probs": ((0.5,), {"top_p": 0.5}),
    "min_p_sampling_from_probs": ((0.2,), {"min_p": 0.2}),
    "top_k_top_p_sampling_from_probs": ((6, 0.6), {"top_k": 6, "top_p": 0.6}),
}


@pytest.mark.parametrize("name", CALLS)
def test_sampling_sets(torch, name):
    arguments, meaning = CALLS[name]
    p = probs(torch, 1)
    many = p.expand(4000, -1).contiguous()
    ids = getattr(fi, name)(many, *arguments, seed=torch.arange(4000), offset=0)
    assert ids.dtype == torch.int32
    allowed = reference.top_set(p[0].numpy(), **meaning)
    assert set(ids.tolist()) <= allowed
    assert len(set(ids.tolist())) >= len(allowed) * 0.7


def test_filter_order(torch):
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).expand(2000, -1).contiguous()
    seeds = {"seed": torch.arange(2000), "offset": 0}
    first = fi.top_k_top_p_sampling_from_probs(p, 2, 0.6, filter_apply_order="top_k_first", **seeds)
    joint = fi.top_k_top_p_sampling_from_probs(p, 2, 0.6, filter_apply_order="joint", **seeds)
    assert set(first.tolist()) == {0, 1} and set(joint.tolist()) == {0, 1}
    # 0.55 of the top-2 mass (0.7) is reached by the first token, 0.55 of everything is not.
    first = fi.top_k_top_p_sampling_from_probs(p, 2, 0.55, **seeds)
    joint = fi.top_k_top_p_sampling_from_probs(p, 2, 0.55, filter_apply_order="joint", **seeds)
    assert set(first.tolist()) == {0} and set(joint.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="order"):
        fi.top_k_top_p_sampling_from_probs(p, 2, 0.5, filter_apply_order="p_first")


def test_from_logits(torch):
    logits = randn(torch, 5, 30) * 3
    seeds = {"seed": 11, "offset": 4}
    p = fi.softmax(logits)
    np.testing.assert_array_equal(
        fi.sampling_from_logits(logits, **seeds), fi.sampling_from_probs(p, **seeds)
    )
    np.testing.assert_array_equal(
        fi.top_k_top_p_sampling_from_logits(logits, 5, 0.8, **seeds),
        fi.top_k_top_p_sampling_from_probs(p, 5, 0.8, **seeds),
    )
    cold = fi.softmax(logits, temperature=torch.full((5,), 0.01))
    np.testing.assert_array_equal(cold.argmax(-1), logits.argmax(-1))


def test_generator(torch):
    p = torch.full((200, 50), 1 / 50)

    def draw():
        return fi.sampling_from_probs(p, generator=generator).tolist()

    generator = torch.Generator().manual_seed(3)
    first, second = draw(), draw()
    assert first != second  # advanced
    generator = torch.Generator().manual_seed(3)
    assert draw() == first and draw() == second
    torch.manual_seed(5)
    default = fi.sampling_from_probs(p).tolist()
    torch.manual_seed(5)
    assert fi.sampling_from_probs(p).tolist() == default
    with pytest.raises(TypeError, match="generator: got int"):
        fi.sampling_from_probs(p, generator=4)


def test_seed_of_each_row_is_used(torch):
    p = torch.full((64, 1000), 1e-3)
    same = fi.sampling_from_probs(p, seed=torch.full((64,), 5), offset=torch.zeros(1).long())
    assert len(set(same.tolist())) == 1
    different = fi.sampling_from_probs(p, seed=torch.arange(64), offset=0)
    assert len(set(different.tolist())) > 50
    moved = fi.sampling_from_probs(p, seed=5, offset=torch.arange(64))
    assert len(set(moved.tolist())) > 50
    with pytest.raises(ValueError, match="seed: got 3 elements"):
        fi.sampling_from_probs(p, seed=torch.arange(3), offset=0)


def test_indices_and_valid(torch):
    p = torch.eye(4)
    indices = torch.tensor([2, 2, 0])
    ids = fi.sampling_from_probs(p, indices)
    assert ids.dtype == torch.int64 and ids.tolist() == [2, 2, 0]
    p[0] = float("nan")
    ids, valid = fi.sampling_from_probs(p, return_valid=True)
    assert valid.tolist() == [False, True, True, True] and ids[0] == -1
    with pytest.raises(ValueError, match="NaN"):
        fi.sampling_from_probs(p, check_nan=True)


def test_numpy_sampling():
    p = np.full((4, 10), 0.1, np.float32)
    assert fi.top_k_sampling_from_probs(p, 3).shape == (4,)
    generator = np.random.default_rng(0)
    first = fi.sampling_from_probs(p, generator=generator)
    assert np.array_equal(first, fi.sampling_from_probs(p, generator=np.random.default_rng(0)))


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_install_as_flashinfer():
    code = """
import quire
quire.install_as_flashinfer()
quire.install_as_flashinfer()
import flashinfer, flashinfer.page, importlib.util
from flashinfer.decode import BatchDecodeWithPagedKVCacheWrapper as a
from flashinfer import BatchDecodeWithPagedKVCacheWrapper as b
import flashinfer.sampling as s
assert a is b and s.softmax is flashinfer.softmax
assert flashinfer is quire.flashinfer and importlib.util.find_spec("flashinfer") is not None
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_install_refuses_to_replace_another():
    code = """
import sys, types, quire
sys.modules["flashinfer"] = types.ModuleType("flashinfer")
try:
    quire.install_as_flashinfer()
except RuntimeError as error:
    assert "another package" in str(error)
else:
    raise SystemExit("no error")
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_nothing_heavy_is_imported():
    result = run_python("import quire, sys; assert 'jax' not in sys.modules")
    assert result.returncode == 0, result.stderr
    assert quire.__version__
