import numpy as np
import pytest
import quire

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def blas():
    try:
        one = np.ones((1, 1), np.float32)
        quire.gemm(one, one)
    except RuntimeError as error:
        pytest.skip(f"no BLAS on this machine: {error}")


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 4e-3)])
def test_gemm(lib, close, dtype, tolerance):
    a = lib.array(RNG.standard_normal((5, 24)), dtype)
    weight = lib.array(RNG.standard_normal((7, 24)), dtype)
    close(lib.numpy(quire.gemm(a, weight)), lib.numpy(a) @ lib.numpy(weight).T, tolerance)


def test_f32_out(lib, close):
    a = lib.array(RNG.standard_normal((5, 24)), "bfloat16")
    weight = lib.array(RNG.standard_normal((7, 24)), "bfloat16")
    out = quire.gemm(a, weight, out_dtype="float32")
    assert str(out.dtype).endswith("float32")
    close(lib.numpy(out), lib.numpy(a) @ lib.numpy(weight).T, 1e-5)


def test_shapes():
    with pytest.raises(ValueError, match="gemm: "):
        quire.gemm(np.ones((2, 3), np.float32), np.ones((4, 5), np.float32))
    with pytest.raises(ValueError, match="gemm: a, weight: got shapes"):
        quire.gemm(np.ones(3, np.float32), np.ones((4, 3), np.float32))
