import numpy as np
import pytest
import quire
import quire.flashinfer as fi
from reference import attention

HEADS, KV_HEADS, DIM, PAGE = 4, 2, 64, 4
KIND = {
    "num_qo_heads": HEADS,
    "num_kv_heads": KV_HEADS,
    "head_dim_qk": DIM,
    "page_size": PAGE,
    "q_dtype": "f32",
}


class SharedBatch:
    """Three requests behind one prompt of 21 tokens and one alone, in the pages of a pool."""

    def __init__(self, qo_len=1, seed=0):
        rng = np.random.default_rng(seed)
        pool = quire.KvPool(64, PAGE)
        prompt = list(range(21))
        first = pool.allocate()
        pool.append(first, [*prompt, 100, 101])
        pool.cache_prefix(first)
        self.ids = [first]
        for i in range(2):
            tokens = [*prompt, *range(200 + 10 * i, 205 + 10 * i)]
            self.ids.append(pool.allocate(tokens))
            pool.append(self.ids[-1], tokens[pool.num_cached_tokens(self.ids[-1]) :])
        self.ids.append(pool.allocate())
        pool.append(self.ids[-1], list(range(300, 307)))
        self.pool, self.table = pool, pool.table(self.ids)
        self.qo_indptr = np.arange(len(self.ids) + 1, dtype=np.int32) * qo_len
        shape = (64, PAGE, KV_HEADS, DIM)
        self.q = rng.standard_normal((self.qo_indptr[-1], HEADS, DIM)).astype(np.float32)
        self.k, self.v = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))

    def levels(self, **options):
        options = {"min_shared_tokens": 8, **options}
        return quire.find_cascade(self.qo_indptr, self.table, PAGE, **options)

    def expected(self, **options):
        parts = []
        for r, sequence in enumerate(self.ids):
            tokens, pages = self.pool.num_tokens(sequence), self.pool.pages(sequence)
            rows = slice(self.qo_indptr[r], self.qo_indptr[r + 1])
            k, v = (x[pages].reshape(-1, KV_HEADS, DIM)[:tokens] for x in (self.k, self.v))
            parts.append(attention(self.q[rows], k, v, **options))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@pytest.mark.parametrize("qo_len", [1, 2])
@pytest.mark.parametrize("max_levels", [1, 2, 3])
def test_cascade_is_attention_over_whole_requests(close, qo_len, max_levels):
    batch = SharedBatch(qo_len)
    levels = batch.levels(max_levels=max_levels)
    assert len(levels) == min(max_levels, 2)
    engine = quire.BatchAttention()
    assert engine.plan_cascade(levels, dry_run=True, **KIND) == engine.plan_cascade(levels, **KIND)
    assert (engine.workspace_bytes > 0) == (len(levels) > 1)
    out, lse = engine.run(batch.q, batch.k, batch.v, return_lse=True, causal=True)
    expected = batch.expected(causal=True)
    close(out, expected[0], 1e-5)
    close(lse, expected[1], 1e-5)
    given = {"table": batch.table, "min_shared_tokens": 8, "max_levels": max_levels}
    found = quire.BatchAttention()
    found.plan_cascade(qo_indptr=batch.qo_indptr, **given, **KIND)
    assert found.workspace_bytes == engine.workspace_bytes
    np.testing.assert_array_equal(found.run(batch.q, batch.k, batch.v, causal=True), out)


def test_levels_of_a_pool():
    groups, own = SharedBatch().levels()
    np.testing.assert_array_equal(groups.qo_indptr, [0, 3, 4])
    np.testing.assert_array_equal(groups.kv_indptr, [0, 5, 5])
    np.testing.assert_array_equal(groups.kv_last_page_len, [PAGE, 0])
    np.testing.assert_array_equal(own.qo_indptr, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(own.kv_indptr, [0, 1, 3, 5, 7])
    assert len(SharedBatch().levels(min_shared_tokens=21)) == 1


def test_bad_levels():
    batch, engine = SharedBatch(), quire.BatchAttention()
    with pytest.raises(ValueError, match="levels: got 3 arrays, expected 4"):
        engine.plan_cascade([batch.levels()[0][:3]], **KIND)
    with pytest.raises(ValueError, match="levels: got none"):
        engine.plan_cascade([], **KIND)
    for wrong in ({}, {"table": batch.table}, {"qo_indptr": batch.qo_indptr}):
        with pytest.raises(ValueError, match="levels: expected levels, or qo_indptr and table"):
            engine.plan_cascade(**wrong, **KIND)
    with pytest.raises(NotImplementedError, match="window_left: got 3"):
        engine.plan_cascade(batch.levels(), window_left=3, **KIND)
    with pytest.raises(ValueError, match="max_levels: got 0"):
        batch.levels(max_levels=0)
    engine.plan_cascade(batch.levels(), **KIND)
    with pytest.raises(NotImplementedError, match="window_left"):
        engine.run(batch.q, batch.k, batch.v, window_left=3)


def tensors(torch, batch):
    levels = [[torch.from_numpy(np.array(a)) for a in level] for level in batch.levels()]
    return torch.from_numpy(batch.q), tuple(map(torch.from_numpy, (batch.k, batch.v))), levels


@pytest.mark.parametrize("causal", [False, True])
def test_flashinfer_wrapper(torch, close, causal):
    batch = SharedBatch(2)
    q, cache, levels = tensors(torch, batch)
    wrapper = fi.MultiLevelCascadeAttentionWrapper(2, torch.zeros(1 << 20, dtype=torch.uint8))
    arrays = [list(x) for x in zip(*levels)]
    with pytest.raises(RuntimeError, match="got no plan"):
        wrapper.run(q, cache)
    wrapper.plan(
        *arrays,
        *(HEADS, KV_HEADS, DIM, PAGE),
        causal=causal,
        sm_scale=0.3,
        logits_soft_cap=5.0,
        q_data_type=torch.float32,
    )
    expected = batch.expected(causal=causal, sm_scale=0.3, cap=5.0)[0]
    close(wrapper.run(q, cache).numpy(), expected, 1e-5)
    close(wrapper.forward(q, torch.stack(cache, dim=1)).numpy(), expected, 1e-5)
    # The same, level by level and merged, as the states of disjoint tokens are.
    prefill = fi.BatchPrefillWithPagedKVCacheWrapper(torch.zeros(1 << 20, dtype=torch.uint8))
    states = []
    for level, is_last in zip(levels, (False, True)):
        prefill.plan(
            *level,
            *(HEADS, KV_HEADS, DIM, PAGE),
            causal=causal and is_last,
            sm_scale=0.3,
            logits_soft_cap=5.0,
            q_data_type=torch.float32,
        )
        states.append(prefill.run(q, cache, return_lse=True))
    close(fi.merge_state(*states[0], *states[1])[0].numpy(), expected, 1e-5)


def test_flashinfer_wrapper_refuses(torch):
    workspace = torch.zeros(1 << 20, dtype=torch.uint8)
    with pytest.raises(NotImplementedError, match="use_cuda_graph"):
        fi.MultiLevelCascadeAttentionWrapper(2, workspace, use_cuda_graph=True)
    with pytest.raises(ValueError, match="num_levels: got 0"):
        fi.MultiLevelCascadeAttentionWrapper(0, workspace)
    _, _, levels = tensors(torch, SharedBatch())
    arrays, sizes = [list(x) for x in zip(*levels)], (HEADS, KV_HEADS, DIM, PAGE)
    wrapper = fi.MultiLevelCascadeAttentionWrapper(2, workspace)
    with pytest.raises(ValueError, match="paged_kv_indptr_arr: got 1 arrays, expected 2"):
        wrapper.plan(arrays[0], arrays[1][:1], *arrays[2:], *sizes)
    with pytest.raises(NotImplementedError, match="window_left"):
        wrapper.plan(*arrays, *sizes, window_left=4)
    with pytest.raises(NotImplementedError, match="pos_encoding_mode"):
        wrapper.plan(*arrays, *sizes, pos_encoding_mode="ALIBI")
    with pytest.raises(ValueError, match="the same number"):
        wrapper.plan([arrays[0][0] * 0, arrays[0][1]], *arrays[1:], *sizes)
