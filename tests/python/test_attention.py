import numpy as np
import pytest
import quire
from reference import PagedCase, attention

SHAPE = {"heads": 4, "kv_heads": 2, "dim": 32}
PLAN = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 32}


def engine_for(lib, dtype):
    if dtype == "float32" and lib.device != "cpu":
        pytest.skip("attention in f32 runs on the CPU only")
    return quire.BatchAttention(lib.device)


def run_paged(lib, case, dtype="float32", plan_options=None, **options):
    engine = engine_for(lib, dtype)
    engine.plan(
        case.qo_indptr,
        *case.table(),
        **PLAN,
        page_size=case.page_size,
        kv_layout=case.layout,
        q_dtype=dtype,
        **(plan_options or {}),
    )
    pools = lib.array(case.k_cache, dtype), lib.array(case.v_cache, dtype)
    return engine.run(lib.array(case.q, dtype), *pools, return_lse=True, **options)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("page_size", [1, 5, 16])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_paged(lib, close, layout, page_size, dtype, tolerance):
    case = PagedCase([1, 5, 0, 3], [7, 5, 9, 1], page_size=page_size, layout=layout, **SHAPE)
    out, lse = run_paged(lib, case, dtype, causal=True)
    expected = case.expected(causal=True)
    close(lib.numpy(out), expected[0], tolerance)
    close(lib.numpy(lse), expected[1], tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_left": 3},
        {"causal": True, "window_left": 0},
        {"logits_soft_cap": 2.0},
        {"sm_scale": 0.7, "causal": True},
    ],
)
def test_options_of_run(close, options):
    case = PagedCase([3, 1, 4], [9, 30, 0], page_size=4, **SHAPE)
    from conftest import NumpyLibrary

    out, lse = run_paged(NumpyLibrary(), case, **options)
    renamed = {"cap" if k == "logits_soft_cap" else k: v for k, v in options.items()}
    expected = case.expected(**renamed)
    close(out, expected[0], 1e-5)
    close(lse, expected[1], 1e-5)


def test_ragged_mask_sinks_base_2(lib, close):
    rng = np.random.default_rng(8)
    q = rng.standard_normal((5, 4, 32))
    k, v = rng.standard_normal((2, 9, 2, 32))
    mask = [rng.random((2, 6)) < 0.5, rng.random((3, 3)) < 0.5]
    bits = [np.packbits(m.reshape(-1), bitorder="little") for m in mask]
    sinks = rng.standard_normal(4).astype(np.float32)
    engine = engine_for(lib, "float32")
    engine.plan([0, 2, 5], [0, 6, 9], **PLAN, q_dtype="f32")
    out, lse = engine.run(
        *(lib.array(x, "float32") for x in (q, k, v)),
        return_lse=True,
        lse_base=2,
        custom_mask=lib.array(np.concatenate(bits), "uint8"),
        mask_indptr=lib.array(np.array([0, len(bits[0]), len(bits[0]) + len(bits[1])]), "int32"),
        sinks=lib.array(sinks, "float32"),
    )
    parts = [
        attention(q[:2], k[:6], v[:6], mask=mask[0], sink=sinks),
        attention(q[2:], k[6:], v[6:], mask=mask[1], sink=sinks),
    ]
    close(lib.numpy(out), np.concatenate([p[0] for p in parts]), 1e-5)
    close(lib.numpy(lse), np.concatenate([p[1] for p in parts]) / np.log(2), 1e-5)


def test_alibi(lib, close):
    slopes = np.array([0.5, 0.25, 0.125, -0.5], np.float32)
    case = PagedCase([1, 5, 0, 3], [7, 5, 9, 40], page_size=4, **SHAPE)
    out, lse = run_paged(
        lib, case, causal=True, logits_soft_cap=2.0, alibi_slopes=lib.array(slopes, "float32")
    )
    expected = case.expected(causal=True, cap=2.0, alibi=slopes)
    close(lib.numpy(out), expected[0], 1e-5)
    close(lib.numpy(lse), expected[1], 1e-5)


def test_fp8_cache(torch, close):
    case = PagedCase([1, 2], [40, 17], page_size=16, **SHAPE)
    engine = quire.BatchAttention()
    engine.plan(
        case.qo_indptr, *case.table(), **PLAN, page_size=16, q_dtype="f32", kv_dtype="f8e4m3"
    )
    pools = [
        torch.nan_to_num(torch.from_numpy(x)).to(torch.float8_e4m3fn)
        for x in (case.k_cache, case.v_cache)
    ]
    for r, (indptr, n) in enumerate(zip(case.kv_indptr, case.kv_lens)):
        pages = case.kv_indices[indptr:]
        rows = [(pages[t // 16], t % 16) for t in range(n)]
        case.k[r] = np.stack([pools[0][p, s].double().numpy() for p, s in rows]) * 0.5
        case.v[r] = np.stack([pools[1][p, s].double().numpy() for p, s in rows]) * 2.0
    out = engine.run(torch.from_numpy(case.q), *pools, k_scale=0.5, v_scale=2.0)
    close(out.numpy(), case.expected()[0], 1e-5)


E4M3 = "float8_e4m3fn"


def as_e4m3(lib, case, q_scales, k_scales, v_scales):
    """(q, k_cache, v_cache) of the case in fp8; the case becomes what they and the scales mean."""
    arrays = [lib.array(x, E4M3) for x in (case.q, case.k_cache, case.v_cache)]
    rounded = [[lib.numpy(lib.array(x, E4M3)) for x in rows] for rows in (case.k, case.v)]
    case.q = lib.numpy(arrays[0]) * q_scales[:, None]
    case.k = [x * k_scales[:, None] for x in rounded[0]]
    case.v = [x * v_scales[:, None] for x in rounded[1]]
    return arrays


@pytest.mark.parametrize("o_dtype, tolerance", [(None, 1e-2), ("float16", 2e-3)])
def test_fp8_queries_and_scales_of_heads(lib, close, o_dtype, tolerance):
    if lib.device != "cpu":
        if not lib.is_hopper:
            pytest.skip("fp8 queries run on the CPU and on Hopper")
        tolerance = 6e-2  # weights of 8 bits too
    case = PagedCase([1, 5, 0, 3], [7, 5, 9, 40], page_size=4, **SHAPE)
    scales = [np.array(x, np.float32) for x in ([0.5, 1, 1.5, 2], [0.75, 0.25], [3, 0.5])]
    q, *pools = as_e4m3(lib, case, *scales)
    engine = quire.BatchAttention(lib.device)
    engine.plan(
        case.qo_indptr, *case.table(), **PLAN, page_size=4, q_dtype="f8e4m3", o_dtype=o_dtype
    )
    tensors = [lib.array(x, "float32") for x in scales]
    names = ("q_scales", "k_scales", "v_scales")
    out = engine.run(q, *pools, causal=True, q_scale=2.0, v_scale=0.5, **dict(zip(names, tensors)))
    case.q *= 2.0
    close(lib.numpy(out) * 2.0, case.expected(causal=True)[0], tolerance)
    with pytest.raises(ValueError, match=r"k_scales: got 4 .* expected 2 \(num_kv_heads\)"):
        engine.run(q, *pools, k_scales=tensors[0])


def test_split_kv_and_workspace(close):
    from conftest import NumpyLibrary

    case = PagedCase([1], [600], page_size=16, **SHAPE)
    out, lse = run_paged(NumpyLibrary(), case, plan_options={"fixed_split_size": 64})
    expected = case.expected()
    close(out, expected[0], 1e-5)
    close(lse, expected[1], 1e-5)

    engine = quire.BatchAttention()
    arguments = {**PLAN, "page_size": 16, "q_dtype": "f32", "fixed_split_size": 64}
    need = engine.plan(case.qo_indptr, *case.table(), **arguments, dry_run=True)
    assert need > 0 and engine.workspace_bytes == 0
    engine.set_workspace(np.empty(need - 1, np.uint8))
    with pytest.raises(MemoryError, match=str(need)):
        engine.plan(case.qo_indptr, *case.table(), **arguments)
    engine.set_workspace(np.empty(need + 64, np.uint8))
    assert engine.plan(case.qo_indptr, *case.table(), **arguments) == need


def test_outputs_given(mutable_lib, close):
    case = PagedCase([2, 1], [3, 8], page_size=4, **SHAPE)
    out = mutable_lib.array(np.full((3, 4, 32), np.nan), "float32")
    lse = mutable_lib.array(np.full((3, 4), np.nan), "float32")
    result = run_paged(mutable_lib, case, out=out, lse=lse)
    assert result[0] is out and result[1] is lse
    close(mutable_lib.numpy(out), case.expected()[0], 1e-5)


BAD_PLANS = [
    ({"qo_indptr": [0, 1]}, ValueError, "kv_indptr|qo_indptr"),
    ({"qo_indptr": [0, 2, 1]}, ValueError, "qo_indptr"),
    ({"qo_indptr": [1, 2, 3]}, ValueError, "qo_indptr"),
    ({"qo_indptr": np.array([0.0, 1.0, 2.0])}, TypeError, "qo_indptr: got float64"),
    ({"qo_indptr": [0, 1, 2**40]}, ValueError, "qo_indptr: got a number beyond int32"),
    ({"kv_indices": [0]}, ValueError, "indices"),
    ({"kv_indices": None}, ValueError, "kv_indices, kv_last_page_len, page_size"),
    ({"kv_last_page_len": [1, 5]}, ValueError, "last_page_len"),
    ({"kv_last_page_len": [0, 1]}, ValueError, "last_page_len"),
    ({"num_qo_heads": 5}, ValueError, "num_qo_heads|num_kv_heads"),
    ({"head_dim_qk": 24}, (ValueError, NotImplementedError), "head_dim_qk"),
    ({"kv_layout": "HDN"}, ValueError, "kv_layout"),
    ({"q_dtype": "int32"}, (TypeError, NotImplementedError), "q_dtype"),
    ({"q_dtype": "float7"}, TypeError, "dtype: got float7"),
    ({"max_copy_bytes": -1}, ValueError, "max_copy_bytes: got -1, expected 0 or more"),
]


@pytest.mark.parametrize("change, error, words", BAD_PLANS)
def test_bad_plan_leaves_the_last_one(close, change, error, words):
    case = PagedCase([1, 1], [3, 8], page_size=4, **SHAPE)
    arguments = {
        "qo_indptr": case.qo_indptr,
        "kv_indptr": case.kv_indptr,
        "kv_indices": case.kv_indices,
        "kv_last_page_len": case.kv_last_page_len,
        "page_size": 4,
        "q_dtype": "f32",
        **PLAN,
    }
    engine = quire.BatchAttention()
    engine.plan(**arguments)
    with pytest.raises(error, match=words):
        engine.plan(**{**arguments, **change})
    out = engine.run(case.q, case.k_cache, case.v_cache)
    close(out, case.expected()[0], 1e-5)


BAD_RUNS = [
    ({"sm_scale": -1.0}, ValueError, "sm_scale: got -1.0"),
    ({"sm_scale": float("nan")}, ValueError, "sm_scale: got nan"),
    ({"sm_scale": 0.0}, ValueError, "sm_scale"),
    ({"lse_base": 10}, ValueError, "lse_base: got 10"),
    ({"q": np.zeros((3, 4, 32), np.float32)}, ValueError, "q"),
    ({"q": np.zeros((2, 4, 32), np.float16)}, TypeError, "q"),
    ({"k": np.zeros((9, 2, 4, 32), np.float32)}, ValueError, "k"),
    ({"logits_soft_cap": float("nan")}, ValueError, "logits_soft_cap"),
]


@pytest.mark.parametrize("change, error, words", BAD_RUNS)
def test_bad_run_writes_nothing(change, error, words):
    case = PagedCase([1, 1], [3, 8], page_size=4, **SHAPE)
    engine = quire.BatchAttention()
    engine.plan(case.qo_indptr, *case.table(), **PLAN, page_size=4, q_dtype="f32")
    out = np.full((2, 4, 32), 7, np.float32)
    arguments = {"q": case.q, "k": case.k_cache, "v": case.v_cache, "out": out, **change}
    with pytest.raises(error, match=words):
        engine.run(**arguments)
    np.testing.assert_array_equal(out, 7)


def test_run_without_plan():
    x = np.zeros((1, 4, 32), np.float32)
    with pytest.raises(ValueError, match="plan"):
        quire.BatchAttention().run(x, x, x, np.zeros_like(x))


def test_no_such_device():
    with pytest.raises(ValueError, match="tpu"):
        quire.BatchAttention("tpu")
