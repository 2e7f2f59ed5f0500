"""Tensors of more than 2**31 elements, on a GPU: what 32-bit offsets would wrap. Skipped where
there is none.

An operator on rows must give the bits that it gives for a few of these rows by themselves; how
those are right is what the other tests are about.
"""

import math

import pytest
import quire

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU and PyTorch with CUDA", allow_module_level=True)

DEVICE = "cuda:0"
TOTAL = 2**31
VOCAB = 128256
PARTS = 5  # of a tensor, each of far fewer than 2**31 elements


@pytest.fixture(autouse=True)
def _return_memory():
    yield
    torch.cuda.empty_cache()


def count(*row):
    """How many rows of this shape are more than TOTAL elements."""
    return TOTAL // math.prod(row) + 3


def randn(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device=DEVICE).normal_()


def randint(high, *shape, dtype=torch.int32):
    return torch.randint(high, shape, dtype=dtype, device=DEVICE)


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def bits(tensor):
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(width[tensor.element_size()])


def check_rows(function, *inputs):
    """function(*inputs) against function of a part of their rows, to the last bit."""
    whole = as_tuple(function(*inputs))
    assert max(x.numel() for x in (*inputs, *whole)) > TOTAL
    starts = range(0, len(inputs[0]), -(-len(inputs[0]) // PARTS))
    for start in starts:
        part = slice(start, start + starts.step)
        expected = as_tuple(function(*(x[part] for x in inputs)))
        for got, wanted in zip(whole, expected):
            assert torch.equal(bits(got[part]), bits(wanted)), f"rows from {start}"


COLS = 4096
ROW_OPERATORS = {
    "rms_norm": lambda x, w: quire.rms_norm(x, w),
    "rms_norm_quant": lambda x, w: quire.rms_norm_quant(x, w),
    "layer_norm": lambda x, w: quire.layer_norm(x, w, w),
    "silu_and_mul": lambda x, w: quire.silu_and_mul(x),
    "silu_and_mul_quant": lambda x, w: quire.silu_and_mul_quant(x),
    "quantize_fp8 by token": lambda x, w: quire.quantize_fp8(x),
    "quantize_fp8 by group": lambda x, w: quire.quantize_fp8(x, block=(1, 128)),
    "quantize_fp8, given scale": lambda x, w: quire.quantize_fp8(x, 0.5)[0],
    "nvfp4_kv_quantize": lambda x, w: quire.nvfp4_kv_quantize(x, 0.01),
    "gather_rows": lambda x, w: quire.gather_rows(x, torch.arange(len(x), device=DEVICE).int()),
}


@pytest.mark.parametrize("name", ROW_OPERATORS)
def test_rows(name):
    weight = randn(COLS)
    check_rows(lambda x: ROW_OPERATORS[name](x, weight), randn(count(COLS), COLS))


def test_fused_add_rms_norm():
    weight = randn(COLS)

    def add(x, residual):
        x, residual = x.clone(), residual.clone()
        quire.fused_add_rms_norm(x, residual, weight)
        return x, residual

    rows = count(COLS)
    check_rows(add, randn(rows, COLS), randn(rows, COLS))


def test_dequantize():
    rows = count(COLS)
    codes, scales = quire.quantize_fp8(randn(rows, COLS), block=(1, 128))
    check_rows(lambda x, s: quire.dequantize_fp8(x, s, block=(1, 128)), codes, scales)
    del codes, scales
    codes, scales = randint(256, rows, COLS // 2, dtype=torch.uint8), randn(rows, COLS // 16)
    scales = scales.abs().to(torch.float8_e4m3fn).view(torch.uint8)
    dequantize = quire.nvfp4_kv_dequantize
    assert 2 * codes.numel() > TOTAL
    whole, last = dequantize(codes, scales), slice(rows - 1000, rows)
    assert torch.equal(bits(whole[last]), bits(dequantize(codes[last], scales[last])))


def test_packbits():
    x = randint(2, count(8) * 8, dtype=torch.uint8)
    check_rows(lambda rows: quire.packbits(rows.reshape(-1)), x.view(-1, 8))


def test_rope():
    tokens = count(32, 128)
    q, k, positions = randn(tokens, 32, 128), randn(tokens, 8, 128), randint(100000, tokens)
    check_rows(lambda *x: quire.apply_rope_pos_ids(*x), q, k, positions)
    check_rows(
        lambda q, k, p: quire.rope_quantize_fp8(q, k, None, None, p)[:2],
        q,
        k,
        positions,
    )


def test_states():
    rows = count(32, 128)
    v, s = randn(rows, 32, 128), randn(rows, 32, dtype=torch.float32)
    check_rows(lambda v, s: quire.merge_state(v, s, v, s + 1), v, s)
    v, s = v[: rows // 2 * 2].view(-1, 2, 32, 128), s[: rows // 2 * 2].view(-1, 2, 32)
    check_rows(lambda v, s: quire.merge_states(v, s), v, s)


def test_concat_mla_k():
    tokens = count(128, 128)
    k_nope, k_rope = randn(tokens, 128, 128), randn(tokens, 64)
    k = quire.concat_mla_k(k_nope, k_rope)
    assert torch.equal(k[..., :128], k_nope)
    assert torch.equal(k[..., 128:], k_rope[:, None].expand(-1, 128, -1))


def test_gemm():
    a, weight = (
        (randint(5, n, 16) - 2).bfloat16()  # whole numbers: the order of sums does not matter
        for n in (count(32768), 32768)
    )
    check_rows(lambda a: quire.gemm(a, weight), a)


@pytest.fixture
def logits():
    return randn(count(VOCAB), VOCAB)


SELECTIONS = {
    "top_k": lambda x: quire.top_k(x, 50),
    "top_k_ragged_transform": lambda x: quire.top_k_ragged_transform(
        x, torch.zeros(len(x), dtype=torch.int32, device=DEVICE), None, 50
    ),
    "top_k_mask_logits": lambda x: quire.top_k_mask_logits(x, 50),
    "argmax": lambda x: quire.argmax(x),
    "softmax": lambda x: quire.softmax(x),
    "token_log_probs": lambda x: quire.token_log_probs(x, quire.argmax(x)),
    "renorm_probs": lambda x: quire.renorm_probs(x.abs(), 50, 0.9),
    "apply_logits_processors": lambda x: quire.apply_logits_processors(x, temperature=0.5),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(name, logits):
    check_rows(SELECTIONS[name], logits)


def test_sampling(logits):
    """Sets of one token, so that what is drawn does not depend on the row's number."""
    check_rows(lambda x: quire.sample_from_logits(x, 1, return_log_probs=True), logits)
    check_rows(lambda x: quire.sample_processed(x, top_k=1, temperature=0.5), logits)
    probs = logits.abs().float()
    del logits
    best = probs.argmax(1).int()
    for function in (quire.filtered_sample, quire.top_k_sample):
        assert torch.equal(function(probs, 1), best)
    full = quire.top_k_top_p_sample(probs, 50, 0.9)
    drawn = probs.gather(1, full[:, None].long())[:, 0]
    assert (full >= 0).all() and (drawn >= probs[-1].topk(400).values[-1]).all()


def test_speculation():
    """Drafts that are sure: all are kept, and what follows is the one token of the last row."""
    drafts = 4
    batch = count(drafts, VOCAB)
    ids = randint(VOCAB, batch, drafts + 1)
    probs = torch.zeros(batch, drafts + 1, VOCAB, device=DEVICE)
    probs.scatter_(2, ids[:, :, None].long(), 1.0)
    drawn = quire.chain_speculative_sampling(probs[:, :drafts], ids[:, :drafts].contiguous(), probs)
    assert torch.equal(drawn, ids)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_append(dtype):
    heads, dim, tokens = 8, 128, 300
    k_cache, v_cache = (
        torch.zeros(count(16, heads, dim), 16, heads, dim, dtype=dtype, device=DEVICE)
        for _ in range(2)
    )
    num_slots = len(k_cache) * 16
    slots = num_slots - 1 - torch.arange(tokens, device=DEVICE) * (num_slots // tokens)
    key, value = randn(tokens, heads, dim).to(dtype), randn(tokens, heads, dim).to(dtype)
    quire.append_paged_kv(
        key.bfloat16(), value.bfloat16(), None, None, k_cache, v_cache, slot_mapping=slots
    )
    for cache, rows in ((k_cache, key), (v_cache, value)):
        by_slot = bits(cache).view(num_slots, -1)
        assert torch.equal(by_slot[slots], bits(rows).view(tokens, -1))
        by_slot[slots] = 0
        assert not by_slot.any()


def test_append_mla():
    ckv_cache = torch.zeros(count(16, 512), 16, 512, dtype=torch.bfloat16, device=DEVICE)
    kpe_cache = torch.zeros(len(ckv_cache), 16, 64, dtype=torch.bfloat16, device=DEVICE)
    slots = len(ckv_cache) * 16 - 1 - torch.arange(300, device=DEVICE) * 13000
    ckv, kpe = randn(300, 512), randn(300, 64)
    quire.append_paged_mla(ckv, kpe, None, None, ckv_cache, kpe_cache, slot_mapping=slots)
    assert torch.equal(ckv_cache.view(-1, 512)[slots], ckv)
    assert torch.equal(kpe_cache.view(-1, 64)[slots], kpe)


def test_pages():
    pool = randn(count(16, 8, 128), 16, 8, 128)
    last = len(pool) - 1 - torch.arange(10, dtype=torch.int32, device=DEVICE)
    assert torch.equal(quire.gather_pages(pool, last), pool[last.long()])
    first = torch.arange(10, dtype=torch.int32, device=DEVICE)
    quire.copy_pages(pool, last, first)
    assert torch.equal(pool[:10], pool[last.long()])
    fresh = randn(10, 16, 8, 128)
    quire.scatter_pages(fresh, last, pool)
    assert torch.equal(pool[last.long()], fresh)


def run_paged(q, k, v, pages, page_size, kv_len, **options):
    """Requests of kv_len tokens each, whose pages are the rows of `pages`."""
    batch = len(pages)
    attention = quire.BatchAttention(DEVICE)
    attention.plan(
        [i * (len(q) // batch) for i in range(batch + 1)],
        [i * pages.shape[1] for i in range(batch + 1)],
        pages.reshape(-1),
        [kv_len - (pages.shape[1] - 1) * page_size] * batch,
        num_qo_heads=q.shape[1],
        num_kv_heads=k.shape[2],
        head_dim_qk=q.shape[2],
        page_size=page_size,
        q_dtype=q.dtype,
        kv_dtype=k.dtype,
        **options,
    )
    return attention.run(q, k, v, causal=True)


@pytest.mark.parametrize("qo_len", [1, 300])
@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_attention_over_a_large_pool(qo_len, page_size, dtype):
    heads, dim, batch, kv_len = 8, 128, 3, 1000
    shape = (count(page_size, heads, dim), page_size, heads, dim)
    k, v = (torch.zeros(shape, dtype=dtype, device=DEVICE) for _ in range(2))
    needed = -(-kv_len // page_size)
    pages = torch.linspace(0, len(k) - 1, batch * needed, dtype=torch.float64, device=DEVICE)
    pages = pages.int()[torch.randperm(batch * needed, device=DEVICE)].view(batch, needed)
    for pool in (k, v):
        pool[pages.long()] = randn(batch, needed, *shape[1:]).to(dtype)
    q = randn(batch * qo_len, 32, dim)
    got = run_paged(q, k, v, pages, page_size, kv_len)
    near = torch.arange(batch * needed, dtype=torch.int32, device=DEVICE).view(batch, needed)
    k, v = (pool[pages.view(-1).long()].contiguous() for pool in (k, v))
    assert torch.equal(bits(got), bits(run_paged(q, k, v, near, page_size, kv_len)))


def test_attention_of_many_rows():
    """Ragged, q and out of more than TOTAL elements: the last requests as a batch of their own."""
    heads, dim, qo_len = 32, 128, 4096
    batch = count(qo_len, heads, dim)
    q, k, v = randn(batch * qo_len, heads, dim), *(randn(batch * qo_len, 4, dim) for _ in range(2))

    def run(*tensors):
        attention = quire.BatchAttention(DEVICE)
        starts = range(0, len(tensors[0]) + 1, qo_len)
        kind = {"num_qo_heads": heads, "num_kv_heads": 4, "head_dim_qk": dim, "causal": True}
        attention.plan(list(starts), list(starts), batch_invariant=True, **kind)
        return attention.run(*tensors, causal=True)

    last = slice((batch - 3) * qo_len, None)
    got = run(q, k, v)
    assert torch.equal(bits(got[last]), bits(run(q[last], k[last], v[last])))
