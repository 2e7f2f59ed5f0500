import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(7)


def random_probs(rows, vocab):
    logits = RNG.standard_normal((rows, vocab)) * 2
    probs = np.exp(logits)
    return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 1e-5)])
def test_softmax(lib, close, dtype, tolerance):
    logits = lib.array(RNG.standard_normal((4, 100)) * 3, dtype)
    temperature = np.array([0.5, 1.0, 2.0, 0.1])
    out = quire.softmax(logits, lib.array(temperature, "float32"))
    scaled = lib.numpy(logits) / np.float32(temperature)[:, None]
    expected = np.exp(scaled - scaled.max(-1, keepdims=True))
    close(lib.numpy(out), expected / expected.sum(-1, keepdims=True), tolerance)
    greedy = lib.numpy(quire.softmax(logits, 0.0))
    np.testing.assert_array_equal(greedy, np.eye(100)[lib.numpy(logits).argmax(-1)])


def test_token_log_probs(lib, close):
    logits = lib.array(RNG.standard_normal((3, 50)) * 3, "float32")
    values = lib.numpy(logits) / 0.5
    expected = values - np.log(np.exp(values).sum(-1, keepdims=True))
    ids = np.array([[3, 49], [0, 0], [7, -1]])
    out = lib.numpy(quire.token_log_probs(logits, lib.array(ids, "int32"), 0.5))
    wanted = np.take_along_axis(expected, ids.clip(0), 1)
    assert np.isnan(out[2, 1])
    close(np.delete(out, 5), np.delete(wanted, 5), 1e-5)
    flat = lib.numpy(quire.token_log_probs(logits, lib.array(ids[:, 0], "int32"), 0.5))
    close(flat, wanted[:, 0], 1e-5)
    with pytest.raises(ValueError, match="token_log_probs: out: got|token_log_probs: ids: got"):
        quire.token_log_probs(logits, lib.array(np.zeros(4), "int32"))


def test_argmax(lib):
    logits = np.array([[1, 3, 3, 2], [np.nan, 1, 2, 3], [-np.inf, -1, -2, -3]])
    ids = quire.argmax(lib.array(logits, "float32"))
    np.testing.assert_array_equal(lib.numpy(ids), [1, -1, 1])


def test_sample_follows_the_distribution():
    probs = random_probs(1, 8)
    many = np.repeat(probs, 20000, axis=0)
    ids = quire.sample(many, seed=5, offset=np.arange(20000, dtype=np.int64))
    counts = np.bincount(ids, minlength=8)
    expected = 20000 * probs[0]
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 24.3  # 0.999 quantile for 7 degrees of freedom


FILTERS = [
    (quire.top_k_sample, (3,), {"top_k": 3}),
    (quire.top_k_sample, (0,), {}),
    (quire.top_p_sample, (0.6,), {"top_p": 0.6}),
    (quire.min_p_sample, (0.3,), {"min_p": 0.3}),
    (quire.top_k_top_p_sample, (6, 0.7), {"top_k": 6, "top_p": 0.7}),
    (quire.top_k_top_p_sample, (6, 0.7, "joint"), {"top_k": 6, "top_p": 0.7, "joint": True}),
]


@pytest.mark.parametrize("function, arguments, meaning", FILTERS)
def test_filters_give_exactly_their_set(function, arguments, meaning):
    probs = (RNG.random((3, 12)) + 0.2).astype(np.float32)  # none so small that no draw finds it
    probs /= probs.sum(-1, keepdims=True)
    probs[1] = 0.25 * (np.arange(12) % 3 == 0)  # ties
    for row in probs:
        many = np.repeat(row[None], 3000, axis=0)
        ids = function(many, *arguments, seed=np.arange(3000, dtype=np.int64))
        assert set(ids.tolist()) == reference.top_set(row, **meaning)


def test_parameters_per_row(lib):
    probs = np.tile(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32), (4, 1))
    given = lib.array(probs, "float32")
    ids = quire.top_k_sample(given, lib.array(np.array([1, 1, 1, 1]), "int32"), seed=3)
    np.testing.assert_array_equal(lib.numpy(ids), 0)
    one_row = lib.array(np.eye(4), "float32")
    order = lib.array(np.array([3, 1]), "int32")
    np.testing.assert_array_equal(lib.numpy(quire.sample(one_row, indices=order)), [3, 1])


def test_same_seed_same_token_whatever_the_batch():
    probs = random_probs(64, 500)
    seeds = RNG.integers(0, 2**62, 64)
    together = quire.sample(probs, seed=seeds, offset=9)
    alone = [quire.sample(probs[i : i + 1], seed=int(seeds[i]), offset=9)[0] for i in range(64)]
    np.testing.assert_array_equal(together, alone)
    assert len(set(together.tolist())) > 10


def test_rows_that_cannot_be_sampled(lib):
    probs = np.array([[0.5, 0.5], [np.nan, 1], [0, 0], [-1, 2]])
    ids, valid = quire.sample(lib.array(probs, "float32"), return_valid=True)
    assert lib.numpy(ids)[0] in (0, 1)
    np.testing.assert_array_equal(lib.numpy(ids)[1:], -1)
    np.testing.assert_array_equal(lib.numpy(valid).astype(bool), [True, False, False, False])


def test_errors():
    probs = random_probs(2, 4)
    with pytest.raises(ValueError, match="top_k_top_p_sample: order: got 'p_first'"):
        quire.top_k_top_p_sample(probs, 1, 0.5, "p_first")
    with pytest.raises(TypeError, match="sample: probs"):
        quire.sample(probs.astype(np.float64).astype(np.float16))
    with pytest.raises(ValueError, match="sample: seed"):
        quire.sample(probs, seed=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="softmax: temperature"):
        quire.softmax(probs, -1.0)
