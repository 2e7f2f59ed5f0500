import numpy as np
import pytest
import quire.flashinfer as fi
from reference import PagedCase, attention

SHAPE = {"heads": 4, "kv_heads": 2, "dim": 64}
HEADS = (4, 2, 64)
LN2 = np.log(2)


@pytest.fixture
def workspace(torch):
    return torch.zeros(1 << 20, dtype=torch.uint8)


def tensors(torch, case, dtype="float32"):
    """(q, (k_cache, v_cache), indptr, indices, last_page_len)"""
    kind = getattr(torch, dtype)
    pools = tuple(torch.from_numpy(x).to(kind) for x in (case.k_cache, case.v_cache))
    return torch.from_numpy(case.q).to(kind), pools, *(torch.from_numpy(x) for x in case.table())


def packed(pools):
    import torch

    return torch.stack(pools, dim=1)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 1e-2)])
def test_batch_decode(torch, workspace, close, layout, page_size, dtype, tolerance):
    case = PagedCase([1] * 4, [7, 40, 1, 0], page_size=page_size, layout=layout, **SHAPE)
    q, pools, *table = tensors(torch, case, dtype)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace, layout, use_tensor_cores=True)
    wrapper.plan(*table, *HEADS, page_size, q_data_type=getattr(torch, dtype))
    expected = case.expected()
    for cache in (pools, packed(pools)):
        out, lse = wrapper.run(q, cache, return_lse=True)
        assert out.dtype == q.dtype and lse.dtype == torch.float32
        close(out.double().numpy(), expected[0], tolerance)
        close(lse.numpy(), expected[1] / LN2, tolerance)
    assert wrapper.use_tensor_cores and not wrapper.is_cuda_graph_enabled
    np.testing.assert_array_equal(wrapper._paged_kv_indices_buf.numpy(), case.kv_indices)
    assert wrapper._float_workspace_buffer is workspace and wrapper._kv_layout == layout


def test_decode_options_at_run(torch, workspace, close):
    """SGLang plans once and sets scale, window and soft cap a layer."""
    case = PagedCase([1, 1], [30, 9], page_size=1, **SHAPE)
    q, (k, v), *table = tensors(torch, case)
    slots = k[:, 0], v[:, 0]  # [slots, heads, dim]
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace)
    wrapper.begin_forward(*table, *HEADS, 1, data_type=torch.float32, q_data_type=torch.float32)
    for options in (
        {"sm_scale": 0.3, "logits_soft_cap": 5.0},
        {"window_left": 4},
        {"k_scale": 0.5, "v_scale": 2.0, "q_scale": 3.0},
    ):
        factor = options.get("v_scale", 1.0)
        scale = options.get("sm_scale", 64**-0.5)
        scale *= options.get("k_scale", 1.0) * options.get("q_scale", 1.0)
        expected = case.expected(
            sm_scale=scale,
            cap=options.get("logits_soft_cap", 0.0),
            window_left=options.get("window_left", -1),
        )
        close(wrapper.forward(q, slots, **options).numpy(), expected[0] * factor, 1e-5)
        out, lse = wrapper.forward_return_lse(q, slots, **options)
        close(out.numpy(), expected[0] * factor, 1e-5)
        close(lse.numpy(), expected[1] / LN2, 1e-5)
    wrapper.end_forward()


def test_decode_deprecated_positional(torch, workspace, close):
    case = PagedCase([1, 1], [30, 9], page_size=4, **SHAPE)
    q, pools, *table = tensors(torch, case)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace)
    with pytest.warns(DeprecationWarning):
        wrapper.plan(*table, *HEADS, 4, "NONE", 6, None, torch.float32)
    close(wrapper.run(q, pools).numpy(), case.expected(window_left=6)[0], 1e-5)
    with pytest.raises(TypeError, match="window_left"):
        wrapper.plan(*table, *HEADS, 4, "NONE", 6, window_left=7)
    with pytest.raises(TypeError, match="positional"):
        wrapper.plan(*table, *HEADS, 4, *range(17))


def test_several_rows_a_request_are_causal(torch, workspace, close):
    case = PagedCase([3, 3], [30, 5], page_size=4, **SHAPE)
    q, pools, *table = tensors(torch, case)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace, use_tensor_cores=True)
    wrapper.plan(*table, *HEADS, 4, q_data_type="float32", q_len_per_req=3)
    close(wrapper.run(q, pools).numpy(), case.expected(causal=True)[0], 1e-5)


def test_cuda_graph_wrapper_keeps_its_buffers(torch, workspace, close):
    buffers = [torch.full((n,), -7, dtype=torch.int32) for n in (3, 50, 2)]
    wrapper = fi.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace, *buffers)
    assert wrapper.is_cuda_graph_enabled
    for kv_lens in ([30, 9], [2, 64]):
        case = PagedCase([1, 1], kv_lens, page_size=4, **SHAPE)
        q, pools, *table = tensors(torch, case)
        fi.fast_decode_plan(wrapper, *table, *HEADS, 4, q_data_type=torch.float32)
        for buffer, values in zip(buffers, table):
            np.testing.assert_array_equal(buffer[: len(values)], values)
        assert wrapper._paged_kv_indptr_buf is buffers[0]
        close(wrapper.run(q, pools).numpy(), case.expected()[0], 1e-5)
    before = [b.clone() for b in buffers]
    with pytest.raises(ValueError, match="batch_size: got 1, expected 2"):
        wrapper.plan(table[0][:2], table[1], table[2][:1], *HEADS, 4)
    with pytest.raises(ValueError, match="last_page_len"):
        wrapper.plan(*table[:2], table[2] + 9, *HEADS, 4)
    for buffer, values in zip(buffers, before):
        np.testing.assert_array_equal(buffer, values)
    with pytest.raises(ValueError, match="paged_kv_indptr_buffer: got None"):
        fi.BatchDecodeWithPagedKVCacheWrapper(workspace, use_cuda_graph=True)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("causal", [False, True])
def test_batch_prefill_paged(torch, workspace, close, layout, causal):
    case = PagedCase([3, 17, 1, 2], [7, 40, 1, 0], page_size=5, layout=layout, **SHAPE)
    q, pools, *table = tensors(torch, case)
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(workspace, layout)
    qo_indptr = torch.from_numpy(case.qo_indptr)
    wrapper.plan(qo_indptr, *table, *HEADS, 5, causal=causal, q_data_type=torch.float32)
    expected = case.expected(causal=causal)
    out, lse = wrapper.run(q, pools, return_lse=True)
    close(out.numpy(), expected[0], 1e-5)
    close(lse.numpy(), expected[1] / LN2, 1e-5)
    assert wrapper._causal == causal and wrapper._window_left == -1
    assert wrapper._sm_scale is None and wrapper._logits_soft_cap is None
    again = wrapper.forward(q, pools, causal=not causal, window_left=6)
    close(again.numpy(), case.expected(causal=not causal, window_left=6)[0], 1e-5)
    given = torch.full_like(q, float("nan"))
    assert wrapper.run(q, pools, out=given) is given


@pytest.mark.parametrize("packed_form", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_custom_mask(torch, workspace, close, packed_form, ragged):
    case = PagedCase([3, 5], [7, 9], page_size=4, **SHAPE)
    q, pools, *table = tensors(torch, case)
    rng = np.random.default_rng(9)
    masks = [rng.random((m, n)) < 0.6 for m, n in zip(case.qo_lens, case.kv_lens)]
    flat = torch.from_numpy(np.concatenate([m.reshape(-1) for m in masks]))
    bits = [np.packbits(m.reshape(-1), bitorder="little") for m in masks]
    name = "packed_custom_mask" if packed_form else "custom_mask"
    given = {name: torch.from_numpy(np.concatenate(bits)) if packed_form else flat}
    qo_indptr = torch.from_numpy(case.qo_indptr)
    # causal is replaced by the mask.
    options = {"q_data_type": torch.float32, "causal": True}
    if ragged:
        wrapper = fi.BatchPrefillWithRaggedKVCacheWrapper(workspace)
        kv = [torch.from_numpy(np.concatenate(x)) for x in (case.k, case.v)]
        plan = (qo_indptr, torch.tensor([0, 7, 16], dtype=torch.int32), *HEADS)
        wrapper.plan(*plan, **given, **options)
        arguments = (q, *kv)
    else:
        wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(workspace)
        plan = (qo_indptr, *table, *HEADS, 4)
        wrapper.plan(*plan, **given, **options)
        arguments = (q, pools)
    close(wrapper.run(*arguments).numpy(), case.expected(masks)[0], 1e-5)
    with pytest.raises(ValueError, match="mask: got"):
        wrapper.plan(*plan, **{name: given[name][:-1]}, **options)
    wrapper.plan(*plan, **options)  # a plan without a mask forgets the last one
    close(wrapper.run(*arguments).numpy(), case.expected(causal=True)[0], 1e-5)


def test_custom_mask_in_graph_buffers(torch, workspace, close):
    case = PagedCase([3, 5], [7, 9], page_size=4, **SHAPE)
    q, pools, *table = tensors(torch, case)
    masks = [np.tri(m, n, n - m, bool) for m, n in zip(case.qo_lens, case.kv_lens)]
    flat = torch.from_numpy(np.concatenate([m.reshape(-1) for m in masks]))
    sizes = {"qo_indptr_buf": 3, "paged_kv_indptr_buf": 3, "paged_kv_indices_buf": 20}
    buffers = {k: torch.zeros(n, dtype=torch.int32) for k, n in sizes.items()}
    buffers["paged_kv_last_page_len_buf"] = torch.zeros(2, dtype=torch.int32)
    buffers["custom_mask_buf"] = torch.zeros(64, dtype=torch.uint8)
    buffers["mask_indptr_buf"] = torch.zeros(3, dtype=torch.int32)
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", True, **buffers)
    plan = (torch.from_numpy(case.qo_indptr), *table, *HEADS, 4)
    wrapper.plan(*plan, custom_mask=flat, q_data_type=torch.float32)
    close(wrapper.run(q, pools).numpy(), case.expected(masks)[0], 1e-5)
    np.testing.assert_array_equal(buffers["mask_indptr_buf"], [0, 3, 9])
    more_rows = torch.tensor([0, 3, 9], dtype=torch.int32)
    with pytest.raises(ValueError, match="qo_indptr: got 9 rows, expected at most 8"):
        wrapper.plan(more_rows, *plan[1:], q_data_type=torch.float32)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_batch_prefill_ragged(torch, workspace, close, layout):
    rng = np.random.default_rng(10)
    q = rng.standard_normal((7, 4, 64)).astype(np.float32)
    k = rng.standard_normal((12, 2, 64)).astype(np.float32)
    v = rng.standard_normal((12, 2, 32)).astype(np.float32)
    wrapper = fi.BatchPrefillWithRaggedKVCacheWrapper(workspace, layout)
    indptrs = [torch.tensor(x, dtype=torch.int32) for x in ([0, 3, 7], [0, 8, 12])]
    wrapper.plan(*indptrs, *HEADS, head_dim_vo=32, causal=True, q_data_type=torch.float32)
    kv = [torch.from_numpy(x if layout == "NHD" else x.swapaxes(0, 1)) for x in (k, v)]
    out, lse = wrapper.run_return_lse(torch.from_numpy(q), *kv)
    parts = [
        attention(q[:3], k[:8], v[:8], causal=True),
        attention(q[3:], k[8:], v[8:], causal=True),
    ]
    close(out.numpy(), np.concatenate([p[0] for p in parts]), 1e-5)
    close(lse.numpy(), np.concatenate([p[1] for p in parts]) / LN2, 1e-5)
    plain = wrapper.forward(torch.from_numpy(q), *kv, causal=False, sm_scale=0.5)
    parts = [
        attention(q[:3], k[:8], v[:8], sm_scale=0.5),
        attention(q[3:], k[8:], v[8:], sm_scale=0.5),
    ]
    close(plain.numpy(), np.concatenate([p[0] for p in parts]), 1e-5)


def test_strided_kv_views(torch, workspace, close):
    """vLLM packs K and V in one row of 2 * head_dim."""
    case = PagedCase([2, 1], [9, 30], page_size=4, **SHAPE)
    q, pools, *table = tensors(torch, case)
    both = torch.cat(pools, dim=-1)
    views = both[..., :64], both[..., 64:]
    assert not views[0].is_contiguous()
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(workspace)
    plan = (torch.from_numpy(case.qo_indptr), *table, *HEADS, 4)
    wrapper.plan(*plan, q_data_type=torch.float32)
    close(wrapper.run(q, views).numpy(), case.expected()[0], 1e-5)


def test_workspace_size(torch):
    case = PagedCase([1], [4000], page_size=16, **SHAPE)
    q, pools, *table = tensors(torch, case)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(torch.zeros(64, dtype=torch.uint8))
    options = {"q_data_type": torch.float32, "fixed_split_size": 8}
    float_bytes, int_bytes = wrapper.workspace_size(*table, *HEADS, 16, **options)
    assert float_bytes > 64 and int_bytes == 0
    with pytest.raises(MemoryError, match=str(float_bytes)):
        wrapper.plan(*table, *HEADS, 16, **options)
    buffers = torch.zeros(float_bytes, dtype=torch.uint8), torch.zeros(8, dtype=torch.uint8)
    wrapper.reset_workspace_buffer(*buffers)
    wrapper.plan(*table, *HEADS, 16, **options)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_single_request(torch, close, layout):
    rng = np.random.default_rng(11)
    q = rng.standard_normal((5, 4, 64)).astype(np.float32)
    k, v = rng.standard_normal((2, 9, 2, 64)).astype(np.float32)
    kv = [torch.from_numpy(x if layout == "NHD" else x.swapaxes(0, 1)) for x in (k, v)]
    one = fi.single_decode_with_kv_cache(torch.from_numpy(q[0]), *kv, layout, return_lse=True)
    expected = attention(q[:1], k, v)
    close(one[0].numpy(), expected[0][0], 1e-5)
    close(one[1].numpy(), expected[1][0] / LN2, 1e-5)
    mask = rng.random((5, 9)) < 0.6
    for options, meaning in (
        ({"causal": True}, {"causal": True}),
        ({"custom_mask": torch.from_numpy(mask), "causal": True}, {"mask": mask}),
        (
            {"packed_custom_mask": torch.from_numpy(np.packbits(mask, bitorder="little"))},
            {"mask": mask},
        ),
        ({"window_left": 2, "logits_soft_cap": 3.0}, {"window_left": 2, "cap": 3.0}),
    ):
        out, lse = fi.single_prefill_with_kv_cache_return_lse(
            torch.from_numpy(q), *kv, kv_layout=layout, **options
        )
        expected = attention(q, k, v, **meaning)
        close(out.numpy(), expected[0], 1e-5)
        close(lse.numpy(), expected[1] / LN2, 1e-5)
    half = fi.single_prefill_with_kv_cache(
        torch.from_numpy(q).half(), *(x.half() for x in kv), kv_layout=layout, o_dtype=torch.float32
    )
    assert half.dtype == torch.float32


def test_numpy_and_sinks(close):
    case = PagedCase([2, 1], [9, 30], page_size=4, **SHAPE)
    sinks = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(np.zeros(1 << 16, np.uint8))
    wrapper.plan(case.qo_indptr, *case.table(), *HEADS, 4, q_data_type="float32")
    out = wrapper.run(case.q, (case.k_cache, case.v_cache), sinks=sinks)
    close(out, case.expected(sink=sinks)[0], 1e-5)


NOT_BUILT_PLAN = [
    {"pos_encoding_mode": "ROPE_LLAMA"},
    {"pos_encoding_mode": "ALIBI"},
    {"prefix_len_ptr": np.zeros(2, np.uint32)},
    {"token_pos_in_items_ptr": np.zeros(2, np.uint16)},
    {"token_pos_in_items_len": 3},
    {"max_item_len_ptr": np.zeros(2, np.uint16)},
]


@pytest.mark.parametrize("option", NOT_BUILT_PLAN, ids=lambda o: next(iter(o)))
def test_plan_options_not_built(option):
    wrapper = fi.BatchPrefillWithPagedKVCacheWrapper(np.zeros(64, np.uint8))
    arrays = [np.array(x, np.int32) for x in ([0, 1], [0, 1], [0], [1])]
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        wrapper.plan(*arrays, *HEADS, 4, **option)


@pytest.mark.parametrize(
    "option",
    [
        {"kv_cache_sf": np.zeros(1)},
        {"skip_softmax_threshold_scale_factor": 1.0},
    ],
    ids=lambda o: next(iter(o)),
)
def test_run_options_not_built(option):
    case = PagedCase([1], [4], page_size=4, **SHAPE)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(np.zeros(64, np.uint8))
    wrapper.plan(*case.table(), *HEADS, 4, q_data_type="float32")
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        wrapper.run(case.q, (case.k_cache, case.v_cache), **option)


def test_refused_at_construction():
    workspace = np.zeros(64, np.uint8)
    with pytest.raises(NotImplementedError, match="jit_args"):
        fi.BatchDecodeWithPagedKVCacheWrapper(workspace, jit_args=["x"])
    with pytest.raises(NotImplementedError, match="backend: got 'cudnn'"):
        fi.BatchPrefillWithPagedKVCacheWrapper(workspace, backend="cudnn")
    with pytest.raises(ValueError, match="backend: got 'fa7'"):
        fi.BatchPrefillWithPagedKVCacheWrapper(workspace, backend="fa7")
    with pytest.raises(ValueError, match="kv_layout: got 'NDH'"):
        fi.BatchPrefillWithPagedKVCacheWrapper(workspace, "NDH")
    for backend in ("auto", "fa2", "fa3"):
        fi.BatchPrefillWithRaggedKVCacheWrapper(workspace, backend=backend)


def test_layout_that_lies(workspace, torch):
    """Data shaped HND while the plan says NHD."""
    case = PagedCase([1, 1], [30, 9], page_size=4, layout="HND", **SHAPE)
    q, pools, *table = tensors(torch, case)
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD")
    wrapper.plan(*table, *HEADS, 4, q_data_type=torch.float32)
    with pytest.raises(ValueError, match="HND|hnd"):
        wrapper.run(q, pools)


def test_run_before_plan(workspace, torch):
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace)
    x = torch.zeros(1, 4, 64)
    with pytest.raises(RuntimeError, match="plan"):
        wrapper.run(x, torch.zeros(1, 2, 4, 2, 64))


def test_indptr_length(workspace, torch):
    wrapper = fi.BatchDecodeWithPagedKVCacheWrapper(workspace)
    arrays = [torch.zeros(n, dtype=torch.int32) for n in (1, 4, 256)]
    with pytest.raises(ValueError, match="indptr: got 1 elements, expected 257"):
        wrapper.plan(*arrays, *HEADS, 4)
