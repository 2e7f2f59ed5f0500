"""The binding on a GPU: streams, CUDA graphs, device index arrays. Skipped where there is none."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import quire
import quire.flashinfer as flashinfer

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU and PyTorch with CUDA", allow_module_level=True)

HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, NUM_PAGES = 8, 2, 64, 4, 64
DEVICE = "cuda:0"


def page_table(kv_lens, device):
    pages = [-(-n // PAGE_SIZE) for n in kv_lens]
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    indices = (np.arange(indptr[-1]) * 7 + 3) % NUM_PAGES
    last = [n - (p - 1) * PAGE_SIZE if p else 0 for n, p in zip(kv_lens, pages)]
    table = (indptr, indices.astype(np.int32), np.asarray(last, np.int32))
    return tuple(torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in table)


def cache():
    generator = torch.Generator(DEVICE).manual_seed(1)
    shape = (NUM_PAGES, 2, PAGE_SIZE, KV_HEADS, HEAD_DIM)
    return torch.randn(shape, device=DEVICE, generator=generator).bfloat16()


def queries(rows, seed=2):
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn((rows, HEADS, HEAD_DIM), device=DEVICE, generator=generator).bfloat16()


def exact(q, pool, kv_lens, qo_lens):
    """In double, row by row; causal, aligned to the end."""
    indptr, indices, _ = page_table(kv_lens, "cpu")
    k_pool, v_pool = pool.double().unbind(1)
    rows, first = [], 0
    for r, (kv_len, qo_len) in enumerate(zip(kv_lens, qo_lens)):
        pages = indices[indptr[r] : indptr[r + 1]].long()
        k, v = (x[pages].flatten(0, 1)[:kv_len] for x in (k_pool, v_pool))
        k, v = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (k, v))
        for i in range(qo_len):
            seen = kv_len - qo_len + i + 1
            logits = torch.einsum("hd,nhd->hn", q[first + i].double(), k[:seen]) / HEAD_DIM**0.5
            rows.append(torch.einsum("hn,nhd->hd", logits.softmax(-1), v[:seen]))
        first += qo_len
    return torch.stack(rows)


def error(out, expected):
    return ((out.double() - expected).norm() / expected.norm()).item()


def test_captured_decode_follows_later_plans():
    workspace = torch.empty(32 << 20, dtype=torch.uint8, device=DEVICE)
    buffers = [torch.empty(n, dtype=torch.int32, device=DEVICE) for n in (4, NUM_PAGES, 3)]
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace, *buffers)
    pool, q, out = cache(), queries(3), torch.empty_like(queries(3))

    def plan(kv_lens):
        wrapper.plan(
            *page_table(kv_lens, DEVICE),
            HEADS,
            KV_HEADS,
            HEAD_DIM,
            PAGE_SIZE,
            q_data_type=torch.bfloat16,
        )

    plan([1, 1, 1])
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        wrapper.run(q, pool, out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        wrapper.run(q, pool, out=out)
    for kv_lens in ([5, 9, 1], [200, 3, 30], [70, 80, 90], [1, 2, 240]):
        plan(kv_lens)
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert error(out, exact(q, pool, kv_lens, [1, 1, 1])) < 3e-3, kv_lens
    with pytest.raises(ValueError, match=r"indices"):
        plan([200, 200, 200])


def test_captured_run_reads_the_scales_of_an_fp8_cache_anew():
    workspace = torch.empty(32 << 20, dtype=torch.uint8, device=DEVICE)
    buffers = [torch.empty(n, dtype=torch.int32, device=DEVICE) for n in (4, NUM_PAGES, 3)]
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace, *buffers)
    pool, q, out = cache().to(torch.float8_e4m3fn), queries(3), torch.empty_like(queries(3))
    scales = torch.ones((2, KV_HEADS), device=DEVICE)  # of K, of V
    kv_lens = [5, 90, 130]
    wrapper.plan(
        *page_table(kv_lens, DEVICE),
        HEADS,
        KV_HEADS,
        HEAD_DIM,
        PAGE_SIZE,
        q_data_type=torch.bfloat16,
        kv_data_type=torch.float8_e4m3fn,
    )
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        wrapper.run(q, pool, out=out, k_scale=scales[0], v_scale=scales[1])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        wrapper.run(q, pool, out=out, k_scale=scales[0], v_scale=scales[1])
    for values in ([[1, 1], [1, 1]], [[0.5, 2], [3, 0.25]]):
        scales.copy_(torch.tensor(values))
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        scaled = pool.double() * scales.double()[:, None, :, None]  # [pages, 2, tokens, heads, dim]
        assert error(out, exact(q, scaled, kv_lens, [1, 1, 1])) < 4e-3, values


def test_run_waits_for_the_current_stream_only():
    """Work enqueued before on the same side stream is seen: the kernel goes to that stream."""
    kv_lens, qo_lens = [40, 7], [3, 2]
    workspace = torch.empty(32 << 20, dtype=torch.uint8, device=DEVICE)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace)
    qo_indptr = torch.tensor([0, 3, 5], dtype=torch.int32)
    side = torch.cuda.Stream()
    source, pool = cache(), torch.zeros_like(cache())
    q = queries(5)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        wrapper.plan(
            qo_indptr,
            *page_table(kv_lens, "cpu"),
            HEADS,
            KV_HEADS,
            HEAD_DIM,
            PAGE_SIZE,
            causal=True,
            q_data_type=torch.bfloat16,
        )
        torch.cuda._sleep(20_000_000)  # about 10 ms: a kernel elsewhere would read zeros
        pool.copy_(source)
        out = wrapper.run(q, pool)
        pool.zero_()
    side.synchronize()
    assert error(out, exact(q, source, kv_lens, qo_lens)) < 3e-3


def test_checked_mode_names_the_request():
    attention = quire.BatchAttention(DEVICE)
    indptr, indices, last = page_table([9, 17, 5], DEVICE)
    indices[4] = NUM_PAGES + 5  # request 1 owns entries 3 to 7
    attention.plan(
        [0, 1, 2, 3],
        indptr,
        indices,
        last,
        num_qo_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim_qk=HEAD_DIM,
        page_size=PAGE_SIZE,
        checked=True,
    )
    pool = cache()
    with pytest.raises(ValueError, match=r"kv_indices: got a bad page id at \[4\] \(request 1\)"):
        attention.run(queries(3), pool[:, 0], pool[:, 1])


def test_mixed_devices_name_both():
    attention = quire.BatchAttention(DEVICE)
    attention.plan(
        [0, 1],
        *page_table([5], "cpu"),
        num_qo_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim_qk=HEAD_DIM,
        page_size=PAGE_SIZE,
    )
    pool = cache()
    with pytest.raises(ValueError, match=r"cpu.*cuda:0|cuda:0.*cpu"):
        attention.run(queries(1).cpu(), pool[:, 0], pool[:, 1])


def test_sampled_tokens_are_those_of_the_cpu():
    logits = torch.randn((16, 5000), generator=torch.Generator().manual_seed(3)) * 3
    probs = quire.softmax(logits)
    seeds = torch.arange(16, dtype=torch.int64)
    on_cpu = quire.top_k_top_p_sample(probs, 50, 0.9, seed=seeds)
    on_gpu = quire.top_k_top_p_sample(probs.cuda(), 50, 0.9, seed=seeds.cuda())
    assert torch.equal(on_cpu, on_gpu.cpu())


def test_append_skips_padding_on_the_device():
    pool = torch.zeros_like(cache())
    key, value = (torch.randn((4, KV_HEADS, HEAD_DIM), device=DEVICE).bfloat16() for _ in range(2))
    indptr, indices, last = page_table([6, 3], DEVICE)
    batch_indices = torch.tensor([0, -1, 1, 0], dtype=torch.int32, device=DEVICE)
    positions = torch.tensor([4, 0, 2, 5], dtype=torch.int32, device=DEVICE)
    flashinfer.append_paged_kv_cache(
        key, value, batch_indices, positions, pool, indices, indptr, last
    )
    expected = torch.zeros_like(pool)
    for row, (b, p) in enumerate(zip(batch_indices.tolist(), positions.tolist())):
        if b >= 0:
            page = indices[indptr[b] + p // PAGE_SIZE]
            expected[page, 0, p % PAGE_SIZE] = key[row]
            expected[page, 1, p % PAGE_SIZE] = value[row]
    assert torch.equal(pool, expected)


def test_custom_variant_example(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "python" / "custom_variant.py"))
    assert "out (300, 8, 64) torch.bfloat16" in capsys.readouterr().out


def test_alibi_slopes():
    slopes = torch.exp2(-torch.arange(1, HEADS + 1.0, device=DEVICE))
    variant = quire.AttentionVariant(
        name="gpu_alibi",
        source="""struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token) {
    return score + args.slopes[row.qo_head] * (kv_token - row.position);
  }
};""",
        tensors={"slopes": "f32"},
    )
    pool, q, results = cache(), queries(3), []
    for each in (None, variant):
        attention = quire.BatchAttention(DEVICE)
        attention.plan(
            [0, 1, 3],
            *page_table([40, 130], DEVICE),
            num_qo_heads=HEADS,
            num_kv_heads=KV_HEADS,
            head_dim_qk=HEAD_DIM,
            page_size=PAGE_SIZE,
            fixed_split_size=32,
            variant=each,
        )
        options = {"variant_args": {"slopes": slopes}} if each else {"alibi_slopes": slopes}
        results.append(
            attention.run(q, pool[:, 0], pool[:, 1], causal=True, return_lse=True, **options)
        )
    (out, lse), (custom_out, custom_lse) = results
    assert error(custom_out, out.double()) < 3e-3
    assert (custom_lse - lse).abs().max() < 1e-3
    assert not torch.equal(out, run_plain(q, pool))


def run_plain(q, pool):
    attention = quire.BatchAttention(DEVICE)
    attention.plan(
        [0, 1, 3],
        *page_table([40, 130], DEVICE),
        num_qo_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim_qk=HEAD_DIM,
        page_size=PAGE_SIZE,
    )
    return attention.run(q, pool[:, 0], pool[:, 1], causal=True)


KIND = {
    "num_qo_heads": HEADS,
    "num_kv_heads": KV_HEADS,
    "head_dim_qk": HEAD_DIM,
    "page_size": PAGE_SIZE,
}
MAX_PAGES = 20


def reserved_engine(batch, **options):
    engine = quire.BatchAttention(DEVICE)
    engine.reserve(
        max_batch_size=batch,
        max_total_q=batch,
        max_kv_entries=batch * MAX_PAGES,
        **KIND,
        **options,
    )
    return engine


def test_a_captured_step_that_plans_on_the_device():
    """Lengths change on the device only; each replay plans anew."""
    batch, pool, q = 3, cache(), queries(3)
    k, v = pool.unbind(1)
    out = torch.empty_like(q)
    seq_lens = torch.ones(batch, dtype=torch.int32, device=DEVICE)
    tables = torch.zeros((batch, MAX_PAGES), dtype=torch.int32, device=DEVICE)
    engine = reserved_engine(batch)

    def step():
        engine.plan_on_device(seq_lens, tables, **KIND)
        engine.run(q, k, v, out=out, causal=True)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for kv_lens in ([5, 1, 9], [80, 3, 1], [1, 71, 72], [2, 80, 80]):
        indptr, indices, _ = (x.tolist() for x in page_table(kv_lens, "cpu"))
        for r in range(batch):
            ids = indices[indptr[r] : indptr[r + 1]]
            tables[r, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        seq_lens.copy_(torch.tensor(kv_lens, dtype=torch.int32))
        graph.replay()
        engine.check_plan()
        assert error(out, exact(q, pool, kv_lens, [1] * batch)) < 6e-3
    seq_lens.copy_(torch.tensor([5, MAX_PAGES * PAGE_SIZE + 1, 7], dtype=torch.int32))
    graph.replay()
    with pytest.raises(ValueError, match=r"does not fit at \[1\]"):
        engine.check_plan()
    assert out[1].isnan().all() and out[0].isfinite().all() and out[2].isfinite().all()


def test_a_plan_inside_a_graph_is_copied_by_each_replay():
    batch, pool, q = 3, cache(), queries(3)
    k, v = pool.unbind(1)
    out = torch.empty_like(q)
    engine = reserved_engine(batch)
    inside, outside = [70, 71, 72], [5, 1, 9]

    def plan(kv_lens):
        engine.plan(range(batch + 1), *page_table(kv_lens, "cpu"), **KIND)

    plan(outside)
    engine.run(q, k, v, out=out, causal=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan(inside)
        engine.run(q, k, v, out=out, causal=True)
    for _ in range(40):
        plan(outside)
        engine.run(q, k, v, out=out, causal=True)
    assert error(out, exact(q, pool, outside, [1] * batch)) < 6e-3
    graph.replay()
    assert error(out, exact(q, pool, inside, [1] * batch)) < 6e-3
    with pytest.raises(ValueError, match="after a captured run"):
        engine.reserve(max_batch_size=1, max_total_q=1, max_kv_entries=1, **KIND)


def test_planning_far_ahead_of_the_device():
    """Every run works on its own plan, however many plans the host is ahead."""
    batch, pool, q = 3, cache(), queries(3)
    k, v = pool.unbind(1)
    engine = reserved_engine(batch)
    steps = [[1 + (7 * i + r) % 80 for r in range(batch)] for i in range(64)]
    tables = [page_table(kv_lens, "cpu") for kv_lens in steps]
    outs = [torch.empty_like(q) for _ in steps]
    torch.cuda._sleep(50_000_000)
    for table, out in zip(tables, outs):
        engine.plan(range(batch + 1), *table, **KIND)
        engine.run(q, k, v, out=out, causal=True)
    for kv_lens, out in zip(steps, outs):
        assert error(out, exact(q, pool, kv_lens, [1] * batch)) < 6e-3
