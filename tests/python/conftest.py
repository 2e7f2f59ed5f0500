"""Array libraries under test: every test that takes `lib` runs once with each."""

import importlib

import numpy as np
import pytest


class NumpyLibrary:
    name = "numpy"
    mutable = True
    device = "cpu"  # of new arrays

    def array(self, values, dtype=None):
        values = np.asarray(values)
        return values.astype(self.dtype(dtype)) if dtype else values.copy()

    def dtype(self, name):
        if name == "bfloat16" or name.startswith("float8"):
            return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
        return np.dtype(name)

    def numpy(self, array):
        assert isinstance(array, np.ndarray)
        return np.asarray(array, np.float64) if array.dtype.kind not in "iub" else array


class TorchLibrary:
    name = "torch"
    mutable = True
    device = "cpu"

    def __init__(self):
        self.torch = pytest.importorskip("torch")

    def array(self, values, dtype=None):
        tensor = self.torch.from_numpy(np.ascontiguousarray(values).copy())
        return tensor.to(getattr(self.torch, dtype)) if dtype else tensor

    def numpy(self, array):
        assert isinstance(array, self.torch.Tensor)
        return (array.double() if array.is_floating_point() else array).numpy()


class JaxLibrary:
    name = "jax"
    mutable = False

    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.device = "cuda:0" if self.jax.default_backend() == "gpu" else "cpu"

    @property
    def is_hopper(self):
        return getattr(self.jax.devices()[0], "compute_capability", "") == "9.0"

    def array(self, values, dtype=None):
        return self.jax.numpy.asarray(np.asarray(values), dtype)

    def numpy(self, array):
        assert isinstance(array, self.jax.Array)
        host = np.asarray(array)
        return host.astype(np.float64) if host.dtype.kind not in "iub" else host


LIBRARIES = {"numpy": NumpyLibrary, "torch": TorchLibrary, "jax": JaxLibrary}


@pytest.fixture(params=sorted(LIBRARIES))
def lib(request):
    return LIBRARIES[request.param]()


@pytest.fixture(params=["numpy", "torch"])
def mutable_lib(request):
    return LIBRARIES[request.param]()


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def assert_close(actual, expected, tolerance):
    """Relative Frobenius error, with equal infinities and no NaN."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert not np.isnan(actual).any()
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    error = np.linalg.norm(actual[finite] - expected[finite])
    assert error <= tolerance * max(np.linalg.norm(expected[finite]), 1e-30)


@pytest.fixture
def close():
    return assert_close
