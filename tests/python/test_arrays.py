import numpy as np
import pytest
import quire
import reference
import tvm_ffi
from quire import _arrays

RNG = np.random.default_rng(13)


@pytest.mark.parametrize(
    "dtype, name",
    [
        ("bf16", "bf16"),
        ("bfloat16", "bf16"),
        ("torch.float16", "f16"),
        (np.float32, "f32"),
        (np.dtype("int64"), "i64"),
        ("float8_e4m3fn", "f8e4m3"),
    ],
)
def test_dtype_name(dtype, name):
    assert _arrays.dtype_name(dtype) == name


def test_dtype_of_torch(torch):
    assert _arrays.dtype_name(torch.bfloat16) == "bf16"
    with pytest.raises(TypeError, match="dtype: got torch.complex64"):
        _arrays.dtype_name(torch.complex64)


def test_anything_with_dlpack(close):
    x, weight = RNG.standard_normal((3, 8)).astype(np.float32), np.ones(8, np.float32)

    class Foreign:
        shape = (3, 8)
        dtype = "float32"

        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    out = quire.rms_norm(Foreign(), weight)
    assert isinstance(out, tvm_ffi.Tensor)
    close(np.from_dlpack(out), reference.rms_norm(x, weight, 1e-6), 1e-6)


def test_libraries_may_be_mixed(torch, close):
    x = torch.randn(3, 8)
    weight = np.ones(8, np.float32)
    out = quire.rms_norm(x, weight)
    assert isinstance(out, torch.Tensor)
    close(out.numpy(), reference.rms_norm(x.numpy(), weight, 1e-6), 1e-6)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_numpy_dtypes_that_dlpack_cannot_name(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.arange(24).reshape(4, 6).astype(getattr(ml_dtypes, name))
    for view in (array, array[::2, 1:], array.T, array[:0]):
        tensor = _arrays.export(view)
        assert tuple(tensor.shape) == view.shape
        assert str(tensor.dtype) == name
        assert tensor.data_ptr() == view.__array_interface__["data"][0] or view.size == 0


def test_memory_lives_as_long_as_the_view():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensor = _arrays.export(np.full(1 << 20, 3, ml_dtypes.bfloat16))
    np.full(1 << 20, 5, ml_dtypes.bfloat16)  # would reuse the memory if it were free
    bits = quire._library.reinterpret(tensor, "f16")
    assert (np.from_dlpack(bits).view(ml_dtypes.bfloat16) == 3).all()


def test_traced_jax_is_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match="traced JAX value|expected a tensor"):
        jax.jit(lambda x: quire.rms_norm(x, x[0]))(jax.numpy.ones((2, 8)))


@pytest.mark.parametrize("values", [[1, 2], (3,), np.array([4], np.int64), np.arange(9)[::2]])
def test_host_int32(values):
    array = _arrays.to_host_int32(values, "op", "name")
    assert array.dtype == np.int32 and array.flags.c_contiguous
    np.testing.assert_array_equal(array, values)


def test_host_int32_of_torch(torch):
    values = torch.arange(8)[::2]
    np.testing.assert_array_equal(_arrays.to_host_int32(values, "op", "name"), [0, 2, 4, 6])
    with pytest.raises(TypeError, match="op: name: got float32, expected integers"):
        _arrays.to_host_int32(values.float(), "op", "name")
    assert _arrays.to_host_int32([], "op", "name").dtype == np.int32
