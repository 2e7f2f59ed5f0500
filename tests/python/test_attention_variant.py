"""Custom attention variants: refused on the CPU, run on the emulator where the build has one."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
import quire
from quire._library import library
from reference import PagedCase

PLAN = {"num_qo_heads": 8, "num_kv_heads": 2, "head_dim_qk": 32, "q_dtype": "f16"}

ALIBI = quire.AttentionVariant(
    name="py_alibi",
    source="""struct Variant {
  static float logits(const Arguments& args, const QueryRow& row, float score, int kv_token) {
    return score + args.factor * args.slopes[row.qo_head] * (kv_token - row.position);
  }
  static bool visible(const Arguments& args, const QueryRow&, int kv_token) {
    return kv_token % args.every == 0;
  }
};""",
    tensors={"slopes": np.float32},
    scalars={"factor": float, "every": int},
)
SIGMOID = quire.AttentionVariant(
    name="py_sigmoid",
    source="""struct Variant {
  static float logits(const Arguments& args, const QueryRow&, float score, int) {
    return 1.f / (1.f + exp_f32(-score - args.bias));
  }
};""",
    scalars={"bias": "f32"},
    softmax=False,
)


@pytest.fixture
def emulator():
    """A fake cuda:0; arrays are put on it by hand, no library knows it."""
    build = Path(os.environ.get("QUIRE_LIBRARY_DIR", "")).parent
    path = build / "emulator" / "libquire_emulator.so"
    if not path.exists():
        pytest.skip("needs a build tree with the emulator")
    emulated = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)  # the kernels link to it
    emulated._ZN5quire8emulator7installEii(1, 80)
    yield
    emulated._ZN5quire8emulator9uninstallEv()


def on_device(array):
    array = np.ascontiguousarray(array)
    tensor = library.empty(array.shape, {"f2": "f16", "f4": "f32"}[array.dtype.str[1:]], "cuda:0")
    ctypes.memmove(tensor.data_ptr(), array.ctypes.data, array.nbytes)
    return tensor


def on_host(tensor, dtype):
    array = np.empty(tuple(tensor.shape), dtype)
    ctypes.memmove(array.ctypes.data, tensor.data_ptr(), array.nbytes)
    return array.astype(np.float64)


def run(case, variant, args, plan_options=None, **options):
    engine = quire.BatchAttention("cuda:0")
    engine.plan(
        case.qo_indptr, *case.table(), **PLAN, page_size=4, variant=variant, **(plan_options or {})
    )
    arrays = [on_device(x.astype(np.float16)) for x in (case.q, case.k_cache, case.v_cache)]
    return engine.run(*arrays, variant_args=args, **options)


def make_case():
    case = PagedCase([1, 5, 3], [7, 5, 40], page_size=4, heads=8, kv_heads=2, dim=32)
    for name in ("k", "v"):  # as the device sees them
        setattr(case, name, [x.astype(np.float16) for x in getattr(case, name)])
    case.q = case.q.astype(np.float16)
    return case


def test_values_by_name(emulator, close):
    case = make_case()
    slopes = np.linspace(0.1, 0.8, 8).astype(np.float32)
    args = {"every": 3, "slopes": on_device(slopes), "factor": 0.5}
    out, lse = run(case, ALIBI, args, causal=True, return_lse=True)
    expected = case.expected(
        causal=True,
        logits_of=lambda head, last, logits, kv: logits + 0.5 * slopes[head] * (kv - last),
        visible=lambda head, last, kv: kv % 3 == 0,
    )
    close(on_host(out, np.float16), expected[0], 2e-3)
    close(on_host(lse, np.float32), expected[1], 1e-4)


def test_without_softmax_and_split(emulator, close):
    case = make_case()
    out = run(case, SIGMOID, {"bias": -1.0}, {"fixed_split_size": 16})
    expected = case.expected(
        softmax=False, logits_of=lambda head, last, logits, kv: 1 / (1 + np.exp(1 - logits))
    )
    close(on_host(out, np.float16), expected[0], 2e-3)
    with pytest.raises(ValueError, match="lse: got a tensor, expected none: variant"):
        run(case, SIGMOID, {"bias": -1.0}, return_lse=True)


def test_compiler_messages(emulator):
    bad = quire.AttentionVariant("py_bad", "struct Variant {\n  no such thing;\n};")
    with pytest.raises(RuntimeError, match=r"variants/py_bad\.h.2"):
        run(make_case(), bad, {})


def test_wrong_names(emulator):
    with pytest.raises(ValueError, match="variant_args: got bias, cap, expected bias, as"):
        run(make_case(), SIGMOID, {"bias": 1.0, "cap": 2.0})
    with pytest.raises(ValueError, match="variant_args: got none, expected bias, as"):
        run(make_case(), SIGMOID, None)
    with pytest.raises(ValueError, match="variant_args: got bias, expected none, as the plan has"):
        run(make_case(), None, {"bias": 1.0})


def test_refused_on_the_cpu():
    case = make_case()
    engine = quire.BatchAttention("cpu")
    with pytest.raises(NotImplementedError, match='variant: got "py_alibi" on cpu'):
        engine.plan(case.qo_indptr, *case.table(), **PLAN, page_size=4, variant=ALIBI)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"name": "a b"}, ValueError, 'variant.name: got "a b", expected a C\\+\\+ identifier'),
        ({"source": ""}, ValueError, "variant.source: got an empty text"),
        ({"tensors": {"x": "i64"}}, TypeError, "variant.tensors.x: got i64"),
        ({"tensors": {"x": "complex"}}, TypeError, "dtype: got complex"),
        ({"scalars": {"x": "f16"}}, TypeError, "variant.scalars.x: got f16"),
        ({"scalars": {"slopes": "f32"}}, ValueError, 'two arguments called "slopes"'),
    ],
)
def test_bad_declarations(change, error, words):
    declaration = {"name": "v", "source": "struct Variant {};", "tensors": {"slopes": "f32"}}
    variant = quire.AttentionVariant(**{**declaration, **change})
    case = make_case()
    with pytest.raises(error, match=words):
        quire.BatchAttention().plan(
            case.qo_indptr, *case.table(), **PLAN, page_size=4, variant=variant
        )
