import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_append(mutable_lib, layout, dtype):
    if mutable_lib.name == "numpy" and dtype != "float32":
        pytest.importorskip("ml_dtypes")
    shape = (5, 4, 2, 8) if layout == "NHD" else (5, 2, 4, 8)
    k_cache = mutable_lib.array(np.zeros(shape), dtype)
    v_cache = mutable_lib.array(np.zeros(shape), dtype)
    key = mutable_lib.array(RNG.standard_normal((4, 2, 8)), dtype)
    value = mutable_lib.array(RNG.standard_normal((4, 2, 8)), dtype)
    ints = [
        mutable_lib.array(np.array(x), "int32")
        for x in ([0, 1, -1, 1], [2, 5, 0, 0], [0, 1, 3], [4, 0, 2], [3, 2])
    ]
    quire.append_paged_kv(key, value, *ints[:2], k_cache, v_cache, *ints[2:], layout)
    for cache, rows in ((k_cache, key), (v_cache, value)):
        expected = np.zeros(shape)
        if layout == "HND":
            expected = expected.swapaxes(1, 2).copy()
        rows = mutable_lib.numpy(rows)
        expected[4, 2], expected[2, 1], expected[0, 0] = rows[0], rows[1], rows[3]
        got = mutable_lib.numpy(cache)
        np.testing.assert_array_equal(got if layout == "NHD" else got.swapaxes(1, 2), expected)


def test_row_outside_the_table_changes_nothing():
    cache = np.full((3, 4, 2, 8), 7, np.float32)
    rows = np.zeros((2, 2, 8), np.float32)
    table = [np.array(x, np.int32) for x in ([0, 1], [2], [4])]
    with pytest.raises(ValueError, match="append_paged_kv: positions"):
        ids = np.array([0, 0], np.int32), np.array([0, 4], np.int32)
        quire.append_paged_kv(rows, rows, *ids, cache, cache.copy(), *table)
    np.testing.assert_array_equal(cache, 7)


def test_jax_cache_is_refused():
    jax = pytest.importorskip("jax")
    rows = np.zeros((1, 2, 8), np.float32)
    zero = np.zeros(1, np.int32)
    cache = jax.numpy.zeros((3, 4, 2, 8))
    with pytest.raises(TypeError, match="append_paged_kv: k_cache: got a JAX array"):
        table = np.array([0, 1], np.int32), zero, zero + 1
        quire.append_paged_kv(rows, rows, zero, zero, cache, cache, *table)


def test_index_helpers(lib):
    indptr = lib.array(np.array([0, 2, 2, 5]), "int32")
    lens = lib.array(np.array([7, 4, 3]), "int32")
    batch_indices, positions = quire.get_batch_indices_positions(indptr, lens, 6)
    np.testing.assert_array_equal(lib.numpy(batch_indices), [0, 0, 2, 2, 2, -1])
    np.testing.assert_array_equal(lib.numpy(positions), [5, 6, 0, 1, 2, 0])
    last = lib.array(np.array([3, 9, 1]), "int32")
    pages = lib.array(np.array([0, 2, 2, 3]), "int32")
    np.testing.assert_array_equal(lib.numpy(quire.get_seq_lens(pages, last, 4)), [7, 0, 1])


def test_bad_layout():
    with pytest.raises(ValueError, match="append_paged_kv: kv_layout: got 'NDH'"):
        quire.append_paged_kv(*[np.zeros(1, np.float32)] * 9, "NDH")


def test_slots_and_fp8(mutable_lib):
    lib = mutable_lib
    key, value = (lib.array(RNG.standard_normal((3, 2, 8)), "float32") for _ in range(2))
    caches = [lib.array(np.zeros((4, 3, 2, 8)), "float8_e4m3fn") for _ in range(2)]
    slots = lib.array(np.array([11, -1, 0]), "int64")
    k_scale = np.array([0.5, 0.25])
    scales = {"k_scale": lib.array(k_scale, "float32"), "v_scale": 2.0}
    quire.append_paged_kv(key, value, None, None, *caches, slot_mapping=slots, **scales)
    for cache, rows, scale in zip(caches, (key, value), (k_scale[:, None], 2.0)):
        flat = lib.numpy(cache).reshape(12, 2, 8)
        reference.check_quantized(flat[[11, 0]], lib.numpy(rows)[[0, 2]], "float8_e4m3fn", scale)
        assert (flat[1:11] == 0).all()
    with pytest.raises(ValueError, match="slot_mapping: got None and no whole page table"):
        quire.append_paged_kv(key, value, slots, None, *caches)
    with pytest.raises(ValueError, match="slot_mapping: got a page table too"):
        quire.append_paged_kv(key, value, slots, None, *caches, slot_mapping=slots)


def test_mla(mutable_lib):
    lib = mutable_lib
    ckv, kpe = (lib.array(RNG.standard_normal((2, d)), "float32") for d in (16, 4))
    caches = [lib.array(np.zeros((2, 3, d)), "float32") for d in (16, 4)]
    slots = lib.array(np.array([4, 1]), "int32")
    quire.append_paged_mla(ckv, kpe, None, None, *caches, slot_mapping=slots)
    for cache, rows in zip(caches, (ckv, kpe)):
        flat = lib.numpy(cache).reshape(6, -1)
        np.testing.assert_array_equal(flat[[4, 1]], lib.numpy(rows))
        assert (flat[[0, 2, 3, 5]] == 0).all()
