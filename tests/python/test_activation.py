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


def test_odd_size():
    with pytest.raises(ValueError, match="silu_and_mul: "):
        quire.silu_and_mul(np.ones((2, 7), np.float32))
