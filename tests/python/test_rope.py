import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize("rotary_dim", [None, 16])
@pytest.mark.parametrize("pos_dtype", ["int32", "int64"])
def test_rope(lib, close, interleave, rotary_dim, pos_dtype):
    if lib.name == "jax" and pos_dtype == "int64":
        pytest.skip("JAX has no int64 unless switched on")
    q = lib.array(RNG.standard_normal((6, 4, 32)), "float32")
    k = lib.array(RNG.standard_normal((6, 2, 32)), "float32")
    positions = np.array([0, 1, 2, 500, 7, 3])
    options = {"interleave": interleave, "rotary_dim": rotary_dim}
    out = quire.apply_rope_pos_ids(
        q, k, lib.array(positions, pos_dtype), rope_theta=5e3, rope_scale=2.0, **options
    )
    for x, y in zip((q, k), out):
        expected = reference.rope(lib.numpy(x), positions, theta=5e3, scale=2.0, **options)
        close(lib.numpy(y), expected, 1e-5)


def test_llama31_in_place(mutable_lib, close):
    q = mutable_lib.array(RNG.standard_normal((3, 2, 64)), "float32")
    k = mutable_lib.array(RNG.standard_normal((3, 1, 64)), "float32")
    before = mutable_lib.numpy(q).copy(), mutable_lib.numpy(k).copy()
    positions = np.array([1, 1000, 20000])
    ids = mutable_lib.array(positions, "int32")
    scaling = quire.Llama31Rope(1.0, 4.0, 8192)
    out = quire.apply_rope_pos_ids(q, k, ids, q, k, rope_scale=8.0, rope_theta=5e5, llama31=scaling)
    assert out[0] is q and out[1] is k
    for x, y in zip(before, out):
        expected = reference.rope(x, positions, theta=5e5, scale=8.0, llama31=scaling)
        close(mutable_lib.numpy(y), expected, 1e-3)


@pytest.mark.parametrize("rotary_dim", [0, -2, 3, 64])
def test_bad_rotary_dim(rotary_dim):
    x = np.ones((1, 1, 32), np.float32)
    with pytest.raises(ValueError, match="apply_rope_pos_ids: rotary_dim"):
        quire.apply_rope_pos_ids(x, x, np.zeros(1, np.int32), rotary_dim=rotary_dim)


def table(dim, positions):
    frequency = 1e4 ** (-np.arange(0, dim, 2) / dim)
    angle = np.arange(positions)[:, None] * frequency
    return np.concatenate([np.cos(angle), np.sin(angle)], 1)


def test_requests(lib, close):
    q, k = (lib.array(RNG.standard_normal((5, h, 16)), "float32") for h in (2, 1))
    indptr, offsets = (lib.array(np.array(x), "int32") for x in ([0, 2, 5], [7, 100]))
    positions = [7, 8, 100, 101, 102]
    out = quire.apply_rope(q, k, indptr, offsets, interleave=True)
    for got, x in zip(out, (q, k)):
        expected = reference.rope(lib.numpy(x), positions, interleave=True)
        close(lib.numpy(got), expected, 1e-5)


def test_yarn_and_ntk(lib, close):
    q = lib.array(RNG.standard_normal((3, 2, 64)), "float32")
    pos_ids = lib.array(np.array([0, 5, 900]), "int32")
    ntk, _ = quire.apply_rope_pos_ids(q, q, pos_ids, rope_scale=4.0, ntk=True)
    theta = 1e4 * 4 ** (64 / 62)
    close(lib.numpy(ntk), reference.rope(lib.numpy(q), [0, 5, 900], theta=theta), 1e-4)
    yarn, _ = quire.apply_rope_pos_ids(q, q, pos_ids, rope_scale=4.0, yarn=quire.YarnRope())
    got, x = lib.numpy(yarn), lib.numpy(q)
    factor = 0.1 * np.log(4.0) + 1
    close(got[0], x[0] * factor, 1e-5)
    # The fastest pair keeps its frequency, the slowest one is divided by the scale.
    fast, slow = 5.0, 5e0 * 1e4 ** (-62 / 64) / 4
    for pair, angle in ((0, fast), (31, slow)):
        a, b = x[1, :, pair], x[1, :, pair + 32]
        close(got[1, :, pair], factor * (a * np.cos(angle) - b * np.sin(angle)), 1e-5)
    with pytest.raises(ValueError, match="got yarn and ntk, expected at most one"):
        quire.apply_rope_pos_ids(q, q, pos_ids, yarn=quire.YarnRope(), ntk=True)


def test_cos_sin_cache(lib, close):
    q = lib.array(RNG.standard_normal((3, 2, 16)), "float32")
    pos_ids = lib.array(np.array([0, 5, 31]), "int32")
    cache = lib.array(table(8, 32), "float32")
    out, _ = quire.apply_rope_pos_ids(q, q, pos_ids, cos_sin_cache=cache)
    close(lib.numpy(out), reference.rope(lib.numpy(q), [0, 5, 31], rotary_dim=8), 1e-5)


@pytest.mark.parametrize("mla", [False, True])
def test_quantized_and_appended(mutable_lib, mla):
    lib = mutable_lib
    heads = 1 if mla else 2
    shapes = [(3, 4, 16), (3, heads, 16), (3, 4, 8), (3, heads, 8), (3, heads, 24)]
    q_rope, k_rope, q_nope, k_nope, v = (
        lib.array(RNG.standard_normal(shape), "float32") for shape in shapes
    )
    if mla:
        k_rope, k_nope, v = k_rope[:, 0], k_nope[:, 0], None
    pos_ids, slots = (lib.array(np.array(x), "int32") for x in ([1, 9, 30], [5, -1, 2]))
    options = {"cos_sin_cache": lib.array(table(16, 32), "float32")}
    kinds = ["float8_e4m3fn"] * 4
    turned = reference.rope(lib.numpy(q_rope), [1, 9, 30])
    k_turned = reference.rope(lib.numpy(k_rope).reshape(3, heads, 16), [1, 9, 30])
    exact = [turned, k_turned.reshape(k_rope.shape), lib.numpy(q_nope), lib.numpy(k_nope)]
    scales = {"q_scale": 0.25, "kv_scale": 0.5}
    out = quire.rope_quantize_fp8(q_rope, k_rope, q_nope, k_nope, pos_ids, **scales, **options)
    for got, want, kind, scale in zip(out, exact, kinds, (0.25, 0.5, 0.25, 0.5)):
        reference.check_quantized(lib.numpy(got), want, kind, scale, 1e-3)

    shapes = ((2, 3, 8), (2, 3, 16)) if mla else ((2, 3, 2, 24), (2, 3, 2, 24))
    k_cache, v_cache = (lib.array(np.zeros(shape), "float8_e4m3fn") for shape in shapes)
    rope, nope = quire.rope_append_paged_kv(
        q_rope, k_rope, q_nope, k_nope, v, pos_ids, k_cache, v_cache,
        slot_mapping=slots, k_scale=0.5, v_scale=0.25, **options,
    )  # fmt: skip
    np.testing.assert_allclose(lib.numpy(rope), turned, atol=1e-5)
    np.testing.assert_array_equal(lib.numpy(nope), lib.numpy(q_nope))
    k_want = exact[3] if mla else np.concatenate([exact[1], exact[3]], -1)
    v_want = exact[1] if mla else lib.numpy(v)
    for cache, want, scale in ((k_cache, k_want, 0.5), (v_cache, v_want, 0.25)):
        rows = lib.numpy(cache).reshape(6, *want.shape[1:])
        reference.check_quantized(rows[[5, 2]], want[[0, 2]], kinds[0], scale, 1e-3)
        assert (rows[[0, 1, 3, 4]] == 0).all()
