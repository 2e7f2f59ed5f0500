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
