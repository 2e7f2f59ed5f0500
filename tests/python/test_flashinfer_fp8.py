import numpy as np
import pytest
import quire.flashinfer as fi
from reference import PagedCase

SHAPE = {"heads": 4, "kv_heads": 2, "dim": 64}
HEADS = (4, 2, 64)


def tensors(torch, case):
    """(q, (k_cache, v_cache), indptr, indices, last_page_len)"""
    q, *pools = (
        torch.from_numpy(x).to(torch.float8_e4m3fn) for x in (case.q, case.k_cache, case.v_cache)
    )
    return q, tuple(pools), *(torch.from_numpy(x) for x in case.table())


def test_scales_of_heads_are_for_fp8():
    x = np.zeros((2, 4, 64), np.float32)
    with pytest.raises(ValueError, match="q_scales: got a tensor, expected none: q_dtype is f32"):
        fi.single_prefill_with_kv_cache(x, x, x, scale_q=np.ones(4))
    with pytest.raises(ValueError, match="k_scale: got 3 elements, expected 1 or 4, the heads"):
        fi.single_prefill_with_kv_cache(x, x, x, k_scale=np.ones(3))
    with pytest.raises(ValueError, match="got both scale_v and v_scale"):
        fi.single_prefill_with_kv_cache(x, x, x, scale_v=1.0, v_scale=1.0)
    # A tensor of one element on the host is a number.
    fi.single_prefill_with_kv_cache(x, x, x, scale_q=np.ones((1, 1)))


def fp8_case(torch, qo_lens, kv_lens):
    """A case rounded to what e4m3 holds, and its tensors."""
    case = PagedCase(qo_lens, kv_lens, page_size=4, **SHAPE)

    def rounded(x):
        return torch.from_numpy(x).to(torch.float8_e4m3fn).float().numpy()

    case.q = rounded(case.q)
    case.k, case.v = ([rounded(x) for x in rows] for rows in (case.k, case.v))
    return case, tensors(torch, case)


def test_fp8_scales(torch, close):
    case, (q, pools, *table) = fp8_case(torch, [3, 1], [9, 30])
    scales = [torch.tensor(x) for x in ([0.5, 1, 1.5, 2], [0.75, 0.25], [3, 0.5])]
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(torch.zeros(1 << 20, dtype=torch.uint8))
    wrapper.plan(
        torch.from_numpy(case.qo_indptr),
        *table,
        *HEADS,
        4,
        causal=True,
        q_data_type=torch.float8_e4m3fn,
        o_data_type=torch.float16,
    )
    by_position = wrapper.run(q, pools, *scales)
    names = ("q_scale", "k_scale", "v_scale")
    by_name = wrapper.run(q, pools, **dict(zip(names, scales)))
    plain = case.expected(causal=True)[0]
    close(wrapper.run(q, pools).double().numpy(), plain, 2e-3)
    one = wrapper.run(q, pools, q_scale=torch.ones(1), k_scale=1.0, v_scale=torch.tensor(2.0))
    close(one.double().numpy(), plain * 2, 2e-3)
    case.q = case.q * scales[0].numpy()[:, None]
    case.k = [x * scales[1].numpy()[:, None] for x in case.k]
    case.v = [x * scales[2].numpy()[:, None] for x in case.v]
    expected = case.expected(causal=True)[0]
    assert by_position.dtype == torch.float16
    close(by_position.double().numpy(), expected, 2e-3)
    close(by_name.double().numpy(), expected, 2e-3)
    with pytest.raises(TypeError, match="q_scale: got it by position and by name"):
        wrapper.run(q, pools, *scales, q_scale=1.0)


def test_fp8_single_prefill(torch, close):
    case, (q, *_) = fp8_case(torch, [5], [11])
    k, v = (torch.from_numpy(x[0]).to(torch.float8_e4m3fn) for x in (case.k, case.v))
    scale_k = torch.tensor([0.5, 2.0])
    out = fi.single_prefill_with_kv_cache(
        q, k, v, scale_q=torch.ones(4), scale_k=scale_k, scale_v=3.0, o_dtype=torch.bfloat16
    )
    case.k = [x * scale_k.numpy()[:, None] for x in case.k]
    close(out.double().numpy(), case.expected()[0] * 3, 1e-2)
