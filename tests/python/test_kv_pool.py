import numpy as np
import pytest
import quire


def test_life_of_sequences():
    pool = quire.KvPool(num_pages=8, page_size=4)
    first = pool.allocate()
    assert pool.append(first, list(range(6))) == []
    assert pool.num_tokens(first) == 6 and pool.last_page_len(first) == 2
    assert len(pool.pages(first)) == 2
    second = pool.fork(first)
    copies = pool.append(second, [9])
    assert len(copies) == 1 and copies[0].num_tokens == 2
    assert copies[0].from_page == pool.pages(first)[1]
    assert copies[0].to_page == pool.pages(second)[1]
    table = pool.table([first, second])
    np.testing.assert_array_equal(table.indptr, [0, 2, 4])
    np.testing.assert_array_equal(table.last_page_len, [2, 3])
    np.testing.assert_array_equal(
        table.indices, np.concatenate([pool.pages(first), pool.pages(second)])
    )
    assert pool.stats().pages_shared == 1
    pool.free(first)
    third = pool.allocate(np.arange(6, dtype=np.int64))
    assert pool.num_cached_tokens(third) == 4
    assert pool.page_size == 4


def test_exhaustion_loses_nothing():
    pool = quire.KvPool(2, 4)
    sequence = pool.allocate()
    pool.append(sequence, [1] * 5)
    before = pool.stats()
    with pytest.raises(MemoryError, match="kv_pool"):
        pool.append(sequence, [1] * 10)
    assert pool.stats() == before and pool.num_tokens(sequence) == 5


@pytest.mark.parametrize("call", ["free", "fork", "pages", "num_tokens"])
def test_unknown_sequence(call):
    with pytest.raises(ValueError, match="kv_pool"):
        getattr(quire.KvPool(2, 4), call)(77)


@pytest.mark.parametrize("tokens", [[0.5], np.array([1.0]), ["a"]])
def test_tokens_must_be_integers(tokens):
    with pytest.raises(TypeError, match="kv_pool.allocate: tokens"):
        quire.KvPool(2, 4).allocate(tokens)
