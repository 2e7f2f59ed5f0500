import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 4e-3)])
@pytest.mark.parametrize("shape", [(3, 64), (2, 5, 48), (1, 1), (0, 16)])
def test_rms_norm(lib, close, dtype, tolerance, shape):
    x = lib.array(RNG.standard_normal(shape), dtype)
    weight = lib.array(RNG.standard_normal(shape[-1:]), dtype)
    out = quire.rms_norm(x, weight, 1e-5)
    assert type(out) is type(x) and out.dtype == x.dtype
    close(lib.numpy(out), reference.rms_norm(lib.numpy(x), lib.numpy(weight), 1e-5), tolerance)


def test_rms_norm_out_and_strides(mutable_lib, close):
    wide = mutable_lib.array(RNG.standard_normal((4, 96)), "float32")
    weight = mutable_lib.array(RNG.standard_normal(32), "float32")
    out = mutable_lib.array(np.full((4, 32), np.nan), "float32")
    assert quire.rms_norm(wide[:, 32:64], weight, out=out) is out
    expected = reference.rms_norm(
        mutable_lib.numpy(wide)[:, 32:64], mutable_lib.numpy(weight), 1e-6
    )
    close(mutable_lib.numpy(out), expected, 1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 6e-3)])
def test_fused_add(mutable_lib, close, dtype, tolerance):
    x = mutable_lib.array(RNG.standard_normal((5, 40)), dtype)
    residual = mutable_lib.array(RNG.standard_normal((5, 40)), dtype)
    weight = mutable_lib.array(RNG.standard_normal(40), dtype)
    total = mutable_lib.numpy(x) + mutable_lib.numpy(residual)
    assert quire.fused_add_rms_norm(x, residual, weight) is None
    close(mutable_lib.numpy(residual), total, tolerance)
    expected = reference.rms_norm(total, mutable_lib.numpy(weight), 1e-6)
    close(mutable_lib.numpy(x), expected, tolerance)


def test_gemma(mutable_lib, close):
    x, residual = (mutable_lib.array(RNG.standard_normal((5, 40)), "float32") for _ in range(2))
    weight = mutable_lib.array(RNG.standard_normal(40), "float32")
    more = mutable_lib.numpy(weight) + 1
    out = quire.rms_norm(x, weight, gemma=True)
    close(mutable_lib.numpy(out), reference.rms_norm(mutable_lib.numpy(x), more, 1e-6), 1e-6)
    total = mutable_lib.numpy(x) + mutable_lib.numpy(residual)
    quire.fused_add_rms_norm(x, residual, weight, gemma=True)
    close(mutable_lib.numpy(x), reference.rms_norm(total, more, 1e-6), 1e-6)


def test_layer_norm(lib, close):
    x = lib.array(RNG.standard_normal((3, 4, 24)) + 2, "float32")
    gamma, beta = (lib.array(RNG.standard_normal(24), "float32") for _ in range(2))
    expected = reference.layer_norm(lib.numpy(x), lib.numpy(gamma), lib.numpy(beta), 1e-5)
    close(lib.numpy(quire.layer_norm(x, gamma, beta, 1e-5)), expected, 1e-5)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_quantized(lib, dtype):
    x = lib.array(RNG.standard_normal((6, 32)), "float32")
    weight, beta = (lib.array(RNG.standard_normal(32), "float32") for _ in range(2))
    exact = reference.rms_norm(lib.numpy(x), lib.numpy(weight), 1e-6)
    out, scales = quire.rms_norm_quant(x, weight, dtype=dtype)
    reference.check_quantized(lib.numpy(out), exact, dtype, lib.numpy(scales)[:, None])
    largest = np.abs(exact).max(1) / reference.FP8_LARGEST[dtype]
    np.testing.assert_allclose(lib.numpy(scales), largest, rtol=1e-5)
    for scale in (0.02, lib.array(np.array([0.02]), "float32")):
        out, none = quire.rms_norm_quant(x, weight, scale, dtype=dtype)
        assert none is None
        reference.check_quantized(lib.numpy(out), exact, dtype, 0.02)
    out, scales = quire.layer_norm_quant(x, weight, beta, dtype=dtype)
    exact = reference.layer_norm(lib.numpy(x), lib.numpy(weight), lib.numpy(beta), 1e-6)
    reference.check_quantized(lib.numpy(out), exact, dtype, lib.numpy(scales)[:, None])


def test_fused_add_quantized(mutable_lib, close):
    x, residual = (mutable_lib.array(RNG.standard_normal((5, 40)), "float32") for _ in range(2))
    weight = mutable_lib.array(RNG.standard_normal(40), "float32")
    before = mutable_lib.numpy(x).copy()
    total = before + mutable_lib.numpy(residual)
    out, scales = quire.fused_add_rms_norm_quant(x, residual, weight)
    close(mutable_lib.numpy(residual), total, 1e-6)
    np.testing.assert_array_equal(mutable_lib.numpy(x), before)
    exact = reference.rms_norm(total, mutable_lib.numpy(weight), 1e-6)
    scales = mutable_lib.numpy(scales)[:, None]
    reference.check_quantized(mutable_lib.numpy(out), exact, "float8_e4m3fn", scales)


def test_scale_and_scales_exclude_each_other():
    x, weight = np.ones((2, 8), np.float32), np.ones(8, np.float32)
    with pytest.raises(ValueError, match="rms_norm_quant: scales: got an array beside scale"):
        quire.rms_norm_quant(x, weight, 1.0, scales=np.ones(2, np.float32))


def test_jax_is_immutable():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones((2, 8))
    with pytest.raises(TypeError, match="fused_add_rms_norm: input: got a JAX array"):
        quire.fused_add_rms_norm(x, x, jax.numpy.ones(8))
    with pytest.raises(TypeError, match="rms_norm: out: got a JAX array"):
        quire.rms_norm(x, jax.numpy.ones(8), out=x)


def test_torch_parameter_needs_no_detach(torch, close):
    weight = torch.nn.Parameter(torch.randn(16))
    x = torch.randn(3, 16)
    out = quire.rms_norm(x, weight)
    close(out.numpy(), reference.rms_norm(x.numpy(), weight.detach().numpy(), 1e-6), 1e-6)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"weight": np.ones(7, np.float32)}, ValueError, "rms_norm: weight"),
        ({"weight": np.ones(8, np.float16)}, TypeError, "rms_norm: weight"),
        ({"input": np.ones((2, 8), np.int32)}, TypeError, "rms_norm: input"),
        ({"input": np.ones((2, 16), np.float32)[:, ::2]}, ValueError, "rms_norm: input"),
        ({"eps": -1.0}, ValueError, "rms_norm: eps"),
        ({"eps": float("nan")}, ValueError, "rms_norm: eps"),
        ({"out": np.ones((3, 8), np.float32)}, ValueError, "rms_norm: out"),
    ],
)
def test_bad_input_changes_nothing(change, error, words):
    arguments = {"input": np.ones((2, 8), np.float32), "weight": np.ones(8, np.float32)}
    arguments["out"] = np.full((2, 8), 7, np.float32)
    arguments.update(change)
    before = arguments["out"].copy()
    with pytest.raises(error, match=words):
        quire.rms_norm(**arguments)
    np.testing.assert_array_equal(arguments["out"], before)


def test_read_only_output():
    out = np.ones((2, 8), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="rms_norm: out: got a read-only"):
        quire.rms_norm(np.ones((2, 8), np.float32), np.ones(8, np.float32), out=out)


def test_read_only_input(close):
    x = RNG.standard_normal((2, 8)).astype(np.float32)
    x.flags.writeable = False
    weight = np.ones(8, np.float32)
    close(quire.rms_norm(x, weight), reference.rms_norm(x, weight, 1e-6), 1e-6)


def test_not_an_array():
    with pytest.raises(TypeError, match="got list, expected a tensor"):
        quire.rms_norm([[1.0]], np.ones(1, np.float32))
