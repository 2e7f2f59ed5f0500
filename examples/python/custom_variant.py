"""Attention of one's own: a sliding window that always sees the first tokens, with ALiBi."""

import quire
import torch

heads, kv_heads, dim, tokens = 8, 2, 64, 300
variant = quire.AttentionVariant(
    name="global_window_alibi",
    source="""
struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token) {
    return score + args.slopes[row.qo_head] * (kv_token - row.position);
  }
  static bool visible(const Arguments& args, const QueryRow& row, int kv_token) {
    return kv_token < args.num_global || row.position - kv_token < args.window;
  }
};
""",
    tensors={"slopes": "f32"},
    scalars={"num_global": "i32", "window": "i32"},
)
slopes = torch.exp2(-torch.arange(1, heads + 1.0, device="cuda"))

q = torch.randn(tokens, heads, dim, device="cuda", dtype=torch.bfloat16)
k, v = torch.randn(2, tokens, kv_heads, dim, device="cuda", dtype=torch.bfloat16)
attention = quire.BatchAttention("cuda")
attention.plan(
    [0, tokens],
    [0, tokens],
    num_qo_heads=heads,
    num_kv_heads=kv_heads,
    head_dim_qk=dim,
    variant=variant,
)
args = {"slopes": slopes, "num_global": 4, "window": 64}
out = attention.run(q, k, v, causal=True, variant_args=args)

# The same by PyTorch, in double.
at = torch.arange(tokens, device="cuda")
distance = at[None, :] - at[:, None]
seen = (distance <= 0) & ((at[None, :] < 4) | (-distance < 64))
bias = torch.where(seen, slopes.double()[:, None, None] * distance, -torch.inf)
expected = torch.nn.functional.scaled_dot_product_attention(
    q.double().transpose(0, 1),
    k.double().repeat_interleave(heads // kv_heads, 1).transpose(0, 1),
    v.double().repeat_interleave(heads // kv_heads, 1).transpose(0, 1),
    attn_mask=bias,
).transpose(0, 1)
error = ((out.double() - expected).norm() / expected.norm()).item()
print(f"out {tuple(out.shape)} {out.dtype}, relative error {error:.1e}")
assert error < 5e-3
