"""Filters, logits, top-k, processors and speculative sampling under Quire's own names."""

import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(3)


def distribution(*shape):
    x = np.exp(RNG.standard_normal(shape) * 1.5)
    return (x / x.sum(-1, keepdims=True)).astype(np.float32)


def test_sample_from_logits_draws_from_the_set(lib):
    logits = (RNG.standard_normal((1, 40)) * 2).astype(np.float32)
    probs = np.exp(logits[0] / 0.5)
    many = lib.array(np.repeat(logits, 500, 0), "float32")
    ids, valid, log_probs = quire.sample_from_logits(
        many, 8, 0.9, temperature=0.5, seed=7, return_valid=True, return_log_probs=True
    )
    allowed = reference.top_set(probs / probs.sum(), top_k=8, top_p=0.9)
    drawn = lib.numpy(ids)
    assert set(drawn.tolist()) == allowed
    assert lib.numpy(valid).all()
    kept = sum(probs[i] for i in allowed)
    np.testing.assert_allclose(lib.numpy(log_probs), np.log(probs[drawn] / kept), atol=1e-4)


def test_filtered_sample_with_all_filters():
    row = distribution(30)
    many = np.repeat(row[None], 2000, 0)
    ids = quire.filtered_sample(many, 12, 0.9, 0.1, seed=np.arange(2000, dtype=np.int64))
    by_order = reference.top_set(row, top_k=12, top_p=0.9)
    allowed = {i for i in by_order if row[i] >= np.float32(0.1) * row.max()}
    assert set(ids.tolist()) == allowed
    with pytest.raises(ValueError, match="filtered_sample: order: got 'x'"):
        quire.filtered_sample(many, order="x")


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_renorm_and_mask(lib, close, dtype, tolerance):
    probs = lib.array(distribution(3, 50), dtype)
    exact = lib.numpy(probs)
    out = lib.numpy(quire.renorm_probs(probs, top_p=0.7))
    masked = lib.numpy(quire.top_k_mask_logits(probs, 5))
    for row, renormed, top in zip(exact, out, masked):
        kept = np.zeros(50, bool)
        kept[list(reference.top_set(row, top_p=0.7))] = True
        close(renormed, np.where(kept, row / row[kept].sum(), 0), tolerance)
        five = np.argsort(-row, kind="stable")[:5]
        np.testing.assert_array_equal(top[five], row[five])
        assert np.isneginf(top).sum() == 45
    if lib.mutable:
        assert quire.renorm_probs(probs, 3, out=probs) is probs


def test_top_k(lib):
    x = lib.array(np.round(RNG.standard_normal((4, 300)) * 4) / 4, "float32")
    values, indices = quire.top_k(x, 20)
    exact = lib.numpy(x)
    order = np.argsort(-exact, axis=-1, kind="stable")[:, :20]
    np.testing.assert_array_equal(lib.numpy(indices), order)
    np.testing.assert_array_equal(lib.numpy(values), np.take_along_axis(exact, order, -1))
    _, highest = quire.top_k(x, 20, tie_break="highest_index")
    flipped = 299 - np.argsort(-exact[:, ::-1], axis=-1, kind="stable")[:, :20]
    np.testing.assert_array_equal(lib.numpy(highest), flipped)
    with pytest.raises(ValueError, match="top_k: tie_break"):
        quire.top_k(x, 3, tie_break="none")
    with pytest.raises(NotImplementedError, match="k = 3000"):
        quire.top_k(x, 3000)


def test_top_k_transforms():
    x = np.array([[5, 1, 4, 2], [1, 2, 3, 4]], np.float32)
    lengths = np.array([4, 1], np.int32)
    ragged = quire.top_k_ragged_transform(x, np.array([10, 20], np.int32), lengths, 2)
    np.testing.assert_array_equal(ragged, [[10, 12], [20, -1]])
    table = np.array([[7, 8], [9, 6]], np.int32)
    raw = np.empty((2, 2), np.int32)
    paged = quire.top_k_page_table_transform(x, table, lengths, 2, page_size=2, raw_indices=raw)
    np.testing.assert_array_equal(paged, [[14, 16], [18, -1]])
    np.testing.assert_array_equal(raw, [[0, 2], [0, -1]])


def test_logits_processors(lib, close):
    logits = RNG.standard_normal((2, 70)).astype(np.float32)
    counts = RNG.integers(0, 3, (2, 70)).astype(np.int32)
    allowed = RNG.integers(-(2**31), 2**31, (2, 3)).astype(np.int32)
    bits = np.unpackbits(allowed.view(np.uint8), axis=-1, bitorder="little")[:, :70].astype(bool)
    out = quire.apply_logits_processors(
        lib.array(logits, "float32"),
        bias_ids=lib.array(np.array([[3, -1], [5, 6]]), "int32"),
        bias_values=lib.array(np.array([[1.5, 9], [-2, 0.5]]), "float32"),
        output_counts=lib.array(counts, "int32"),
        repetition_penalty=1.2,
        presence_penalty=lib.array(np.array([0.5, -0.5]), "float32"),
        frequency_penalty=0.25,
        temperature=0.5,
        allowed_mask=lib.array(allowed, "int32"),
    )
    x = logits.astype(np.float64)
    x[0, 3] += 1.5
    x[1, 5:7] += [-2, 0.5]
    x = np.where(counts > 0, np.where(x > 0, x / 1.2, x * 1.2), x)
    x = x - 0.25 * counts - np.array([[0.5], [-0.5]]) * (counts > 0)
    expected = np.where(bits, x / 0.5, -np.inf)
    got = lib.numpy(out)
    np.testing.assert_array_equal(np.isneginf(got), ~bits)
    close(got[bits], expected[bits], 1e-5)


def test_sample_processed(lib):
    logits = lib.array(RNG.standard_normal((6, 70)), "float32")
    processors = {
        "bias_ids": lib.array(np.array([[3, -1]] * 6), "int32"),
        "bias_values": lib.array(np.array([[1.5, 9]] * 6), "float32"),
        "output_counts": lib.array(RNG.integers(0, 3, (6, 70)), "int32"),
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": lib.array(np.full(6, 0.25), "float32"),
        "allowed_mask": lib.array(RNG.integers(-(2**31), 2**31, (6, 3)), "int32"),
    }
    temperature = lib.array(np.array([1, 0, 0.5, 2, 1, 1]), "float32")
    options = {"top_k": 9, "top_p": 0.9, "seed": 3, "return_valid": True, "return_log_probs": True}
    processed = quire.apply_logits_processors(logits, **processors)
    expected = quire.sample_from_logits(processed, temperature=temperature, **options)
    got = quire.sample_processed(logits, temperature=temperature, **processors, **options)
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(lib.numpy(a), lib.numpy(b))


def test_speculative_sampling(lib):
    draft, target = distribution(5, 3, 16), distribution(5, 4, 16)
    draft_ids = RNG.integers(0, 16, (5, 3)).astype(np.int32)
    arrays = [lib.array(x, "float32") for x in (draft, target)]
    ids = quire.chain_speculative_sampling(
        arrays[0], lib.array(draft_ids, "int32"), arrays[1], seed=4
    )
    for row, tokens in zip(lib.numpy(ids), draft_ids):
        length = (row >= 0).sum()
        assert 1 <= length <= 4 and (row[length:] == -1).all()
        np.testing.assert_array_equal(row[: length - 1], tokens[: length - 1])
    tree = lib.array(np.array([[0, 4, 5, 6]]), "int32")
    drawn = lib.array(np.array([[5, 0, 6, 9]]), "int32")
    parents = lib.array(np.array([[-1, 0, 0, 2]]), "int32")
    ids, path, accepted = quire.verify_tree(tree, drawn, 4, parents=parents)
    np.testing.assert_array_equal(lib.numpy(ids), [[5, 6, 9, -1]])
    np.testing.assert_array_equal(lib.numpy(path), [[0, 2, 3, -1]])
    np.testing.assert_array_equal(lib.numpy(accepted), [2])
    with pytest.raises(ValueError, match="verify_tree: parents"):
        quire.verify_tree(tree, drawn, 4)
