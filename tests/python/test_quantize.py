import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(16)


@pytest.mark.parametrize("block", [(1, 0), (1, 128), (4, 64)])
def test_computed_scales(lib, block):
    x = lib.array(RNG.standard_normal((6, 200)), "float32")
    out, scales = quire.quantize_fp8(x, block=block)
    values, cols = lib.numpy(x), block[1] or 200
    whole = lib.numpy(scales).repeat(block[0], 0)[:6].repeat(cols, 1)[:, :200]
    reference.check_quantized(lib.numpy(out), values, "float8_e4m3fn", whole)
    for r in range(0, 6, block[0]):
        for c in range(0, 200, cols):
            tile = np.abs(values[r : r + block[0], c : c + cols])
            got = lib.numpy(scales)[r // block[0], c // cols]
            np.testing.assert_allclose(got, tile.max() / 448, rtol=1e-6)
    back = quire.dequantize_fp8(out, scales, block=block, dtype="f32")
    np.testing.assert_allclose(lib.numpy(back), lib.numpy(out) * whole, rtol=1e-6)


def test_given_scale(lib):
    x = lib.array(RNG.standard_normal((3, 40)), "float32")
    for scale in (0.25, lib.array(np.array([0.25]), "float32")):
        out, none = quire.quantize_fp8(x, scale, dtype="f8e5m2")
        assert none is None
        reference.check_quantized(lib.numpy(out), lib.numpy(x), "float8_e5m2", 0.25)
        back = quire.dequantize_fp8(out, scale, dtype="f32")
        np.testing.assert_array_equal(lib.numpy(back), lib.numpy(out) * 0.25)


@pytest.mark.parametrize("order", ["big", "little"])
def test_packbits(lib, order):
    bits = RNG.integers(0, 2, 45).astype(bool)
    x = lib.array(bits)
    np.testing.assert_array_equal(
        lib.numpy(quire.packbits(x, order)), np.packbits(bits, None, order)
    )
    with pytest.raises(ValueError, match="bitorder: got 'none', expected 'big' or 'little'"):
        quire.packbits(x, "none")


@pytest.mark.parametrize("order", ["big", "little"])
def test_flashinfer_segments(torch, order):
    import quire.flashinfer as fi

    bits = RNG.integers(0, 2, 45).astype(bool)
    indptr = np.array([0, 4, 4, 11, 45])
    x = torch.from_numpy(bits)
    packed, ends = fi.segment_packbits(x, torch.from_numpy(indptr), order)
    parts = [np.packbits(bits[a:b], None, order) for a, b in zip(indptr, indptr[1:])]
    np.testing.assert_array_equal(packed, np.concatenate(parts))
    np.testing.assert_array_equal(ends, [0, 1, 1, 2, 7])
    np.testing.assert_array_equal(fi.packbits(x, order), np.packbits(bits, None, order))


@pytest.mark.parametrize("layout", ["rows", "columns", "aligned", "powers"])
def test_flashinfer_groups(torch, layout):
    import quire.flashinfer as fi

    options = {"column_major_scales": layout != "rows", "scale_tma_aligned": layout == "aligned"}
    options["scale_ue8m0"] = layout == "powers"
    shape = (2, 3, 64) if layout == "rows" else (6, 64)
    x = torch.from_numpy(RNG.standard_normal(shape)).float()
    out, scales = fi.per_token_group_quant_8bit(x, 32, dst_dtype=torch.float8_e5m2, **options)
    assert out.shape == x.shape and scales.shape == (*shape[:-1], 2)
    if layout != "rows":
        assert scales.stride() == (1, 8 if layout == "aligned" else 6)
    expected = x.reshape(-1, 2, 32).abs().amax(-1).double() / 57344
    if layout == "powers":
        expected = expected.log2().ceil().exp2()
    np.testing.assert_allclose(scales.reshape(-1, 2), expected, rtol=1e-6)
    whole = scales.reshape(-1, 2).repeat_interleave(32, 1).double().numpy()
    values = (z.reshape(-1, 64).double().numpy() for z in (out, x))
    reference.check_quantized(*values, "float8_e5m2", whole)


@pytest.mark.parametrize(
    "error, options",
    [
        (NotImplementedError, {"dst_dtype": "int8"}),
        (NotImplementedError, {"eps": 1e-5}),
        (ValueError, {"group_size": 48}),
        (ValueError, {"scale_ue8m0": True}),
        (ValueError, {"scale_tma_aligned": True}),
    ],
)
def test_flashinfer_groups_refused(torch, error, options):
    import quire.flashinfer as fi

    name = next(iter(options))
    with pytest.raises(error, match=f"per_token_group_quant_8bit: {name}: got"):
        fi.per_token_group_quant_8bit(torch.ones(2, 64), **{"group_size": 32, **options})
