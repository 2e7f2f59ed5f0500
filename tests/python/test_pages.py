import numpy as np
import pytest
import quire

RNG = np.random.default_rng(15)


def test_copy_gather_scatter(mutable_lib):
    lib = mutable_lib
    values = RNG.standard_normal((6, 4, 2, 8)).astype(np.float32)
    pool = lib.array(values, "float32")
    quire.copy_pages(pool, *(lib.array(np.array(x), "int32") for x in ([3, -1], [5, 0])))
    values[5] = values[3]
    np.testing.assert_array_equal(lib.numpy(pool), values)
    ids = lib.array(np.array([2, 0]), "int64")
    out = quire.gather_pages(pool, ids)
    np.testing.assert_array_equal(lib.numpy(out), values[[2, 0]])
    assert quire.gather_pages(pool, ids, out) is out
    quire.scatter_pages(out, lib.array(np.array([1, 4]), "int64"), pool)
    values[[1, 4]] = values[[2, 0]]
    np.testing.assert_array_equal(lib.numpy(pool), values)


def test_copy_in_all_pools(mutable_lib):
    lib = mutable_lib
    values = [RNG.standard_normal((6, 4, 2, 8)).astype(np.float32) for _ in range(3)]
    pools = [lib.array(x, "float32") for x in values]
    quire.copy_pages(pools, *(lib.array(np.array(x), "int32") for x in ([3, 0], [5, 2])))
    for pool, x in zip(pools, values):
        x[[5, 2]] = x[[3, 0]]
        np.testing.assert_array_equal(lib.numpy(pool), x)
    with pytest.raises(ValueError, match=r"pools\[1\]: got shape \[5, 4, 2, 8\]"):
        quire.copy_pages(
            [pools[0], pools[1][:5]], *(lib.array(np.array([x]), "int32") for x in (0, 1))
        )


def test_concat_mla_k(lib):
    k_nope = lib.array(RNG.standard_normal((3, 4, 8)), "float32")
    k_rope = lib.array(RNG.standard_normal((3, 1, 4)), "float32")
    k = quire.concat_mla_k(k_nope, k_rope)
    shared = np.broadcast_to(lib.numpy(k_rope), (3, 4, 4))
    np.testing.assert_array_equal(lib.numpy(k), np.concatenate([lib.numpy(k_nope), shared], -1))


def test_flashinfer_concat(torch):
    from quire.flashinfer import concat_ops

    k_nope, k_rope, k = (torch.randn(3, h, d) for h, d in ((4, 8), (1, 4), (4, 12)))
    assert concat_ops.concat_mla_k(k, k_nope, k_rope) is None
    np.testing.assert_array_equal(k, torch.cat([k_nope, k_rope.expand(3, 4, 4)], -1))
