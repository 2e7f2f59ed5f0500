"""One decode step over a paged KV-cache: KvPool hands out pages, the attention reads them."""

import numpy as np
import quire

heads, kv_heads, dim, page_size = 8, 2, 64, 16
pool = quire.KvPool(num_pages=32, page_size=page_size)
cache = np.zeros((2, 32, page_size, kv_heads, dim), np.float16)  # K and V pools, NHD

# Two prompts: give them pages and write their keys and values.
prompts = [np.arange(40), np.arange(17)]
requests = [pool.allocate() for _ in prompts]
for request, tokens in zip(requests, prompts):
    pool.append(request, tokens)
table = pool.table(requests)
lens = quire.get_seq_lens(table.indptr, table.last_page_len, page_size)
append_indptr = np.array([0, *np.cumsum(lens)], np.int32)
where = quire.get_batch_indices_positions(append_indptr, lens, int(lens.sum()))
key, value = np.random.randn(2, lens.sum(), kv_heads, dim).astype(np.float16)
quire.append_paged_kv(key, value, *where, cache[0], cache[1], *table)

# One query row a request. Plan once a step, run once a layer.
q = np.random.randn(len(requests), heads, dim).astype(np.float16)
attention = quire.BatchAttention("cpu")
attention.plan(
    np.arange(len(requests) + 1),
    *table,
    num_qo_heads=heads,
    num_kv_heads=kv_heads,
    head_dim_qk=dim,
    page_size=page_size,
    q_dtype="f16",
)
out, lse = attention.run(q, cache[0], cache[1], causal=True, return_lse=True)
print(f"{lens.tolist()} tokens in {pool.stats().pages_in_use} pages; out {out.shape} {out.dtype}")
