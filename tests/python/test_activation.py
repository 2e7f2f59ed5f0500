import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float16", 1e-3)])
@pytest.mark.parametrize("shape", [(3, 32), (2, 4, 10), (14,)])
def test_silu_and_mul(lib, close, dtype, tolerance, shape):
    x = lib.array(RNG.standard_normal(shape), dtype)
    out = quire.silu_and_mul(x)
    assert type(out) is type(x) and out.dtype == x.dtype
    close(lib.numpy(out), reference.silu_and_mul(lib.numpy(x)), tolerance)


@pytest.mark.parametrize("name", ["gelu_and_mul", "gelu_tanh_and_mul"])
def test_gelu(lib, close, name):
    x = lib.array(RNG.standard_normal((3, 2, 20)), "float32")
    close(lib.numpy(getattr(quire, name)(x)), getattr(reference, name)(lib.numpy(x)), 1e-6)


@pytest.mark.parametrize("name", ["silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul"])
def test_quantized(lib, name):
    x = lib.array(RNG.standard_normal((3, 512)), "float32")
    exact = getattr(reference, name)(lib.numpy(x))
    quantize = getattr(quire, name + "_quant")
    for scale in (0.01, lib.array(np.array([0.01]), "float32")):
        out, none = quantize(x, scale, dtype="f8e5m2")
        assert none is None
        reference.check_quantized(lib.numpy(out), exact, "float8_e5m2", 0.01, 1e-3)
    out, scales = quantize(x)
    got = lib.numpy(scales)
    largest = np.abs(exact).reshape(3, 2, 128).max(-1) / 448
    np.testing.assert_allclose(got, largest, rtol=1e-5)
    reference.check_quantized(lib.numpy(out), exact, "float8_e4m3fn", got.repeat(128, 1), 1e-3)
    _, scales = quantize(x, power_of_two=True)
    np.testing.assert_array_equal(lib.numpy(scales), 2 ** np.ceil(np.log2(got)))


def test_odd_size():
    with pytest.raises(ValueError, match="silu_and_mul: "):
        quire.silu_and_mul(np.ones((2, 7), np.float32))
