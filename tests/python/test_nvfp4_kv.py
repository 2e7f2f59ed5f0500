import numpy as np
import pytest
import quire

RNG = np.random.default_rng(44)
MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
CODES = np.concatenate([MAGNITUDES, -MAGNITUDES])


def decoded(data, scale_bytes):
    """In double, without the global scale; scales are powers of two, 2 ** (byte / 8 - 7)."""
    codes = np.stack([data & 15, data >> 4], -1).reshape(*data.shape[:-1], -1)
    return CODES[codes] * np.exp2(scale_bytes / 8 - 7.0).repeat(16, -1)


def random_cache(*shape):
    data = RNG.integers(0, 256, (*shape[:-1], shape[-1] // 2), np.uint8)
    scales = RNG.integers(1, 12, (*shape[:-1], shape[-1] // 16)).astype(np.uint8) * 8
    return data, scales


def test_dequantize(lib):
    data, scales = random_cache(5, 48)
    for scale in (0.5, lib.array(np.array([0.5]), "float32")):
        out = quire.nvfp4_kv_dequantize(lib.array(data), lib.array(scales), scale, dtype="f32")
        np.testing.assert_array_equal(lib.numpy(out), decoded(data, scales) * 0.5)


def test_quantize_and_back(lib):
    x = RNG.standard_normal((4, 64))
    data, scales = quire.nvfp4_kv_quantize(lib.array(x, "float32"), 0.01)
    assert lib.numpy(data).shape == (4, 32) and lib.numpy(scales).shape == (4, 4)
    back = lib.numpy(quire.nvfp4_kv_dequantize(data, scales, 0.01, dtype="f32"))
    blocks = x.reshape(4, 4, 16)
    # Half the largest distance of codes, 1 of 6, and a scale that is half of 1/8 off.
    bound = np.abs(blocks).max(-1, keepdims=True) * (1 / 6 + 1 / 16)
    assert (np.abs(back.reshape(4, 4, 16) - blocks) <= bound).all()


@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
def test_flashinfer_paged(torch, kv_layout):
    import quire.flashinfer as fi

    shape = (4, 3, 2, 32) if kv_layout == "NHD" else (4, 2, 3, 32)
    pools = [random_cache(*shape) for _ in range(2)]
    tables, lens = np.array([[2, 0], [3, 99]]), np.array([5, 2], np.int32)
    outs = [torch.full((2, 6, 2, 32), 7.0) for _ in range(2)]
    fi.nvfp4_kv_dequantize_paged(
        tuple(torch.from_numpy(data) for data, _ in pools),
        tuple(torch.from_numpy(scales).view(torch.float8_e4m3fn) for _, scales in pools),
        torch.from_numpy(tables),
        torch.from_numpy(lens),
        torch.tensor([0.5]),
        torch.tensor([2.0]),
        *outs,
        kv_layout=kv_layout,
    )
    for (data, scales), out, scale in zip(pools, outs, (0.5, 2)):
        whole = decoded(data, scales) * scale
        if kv_layout == "HND":
            whole = whole.swapaxes(1, 2)
        for r, length in enumerate(lens):
            tokens = np.concatenate([whole[page] for page in tables[r] if page < 4])[:length]
            np.testing.assert_array_equal(out[r, :length], tokens)
            assert (out[r, length:] == 7).all()


def test_flashinfer_rows(torch):
    import quire.flashinfer as fi

    x = torch.randn(6, 128, dtype=torch.bfloat16)
    scale = torch.tensor([x.abs().max().item() / (6 * 448)])
    data, scales = fi.nvfp4_kv_quantize(x, scale)
    back = fi.nvfp4_kv_dequantize(data, scales, scale)
    assert back.dtype == torch.bfloat16
    assert ((back - x).float().norm() / x.float().norm()).item() < 0.12


def test_errors(lib):
    data, scales = (lib.array(x) for x in random_cache(5, 48))
    with pytest.raises(ValueError, match=r"block_scales: got 3 in dimension 1"):
        quire.nvfp4_kv_dequantize(data[:, :16], scales)
    with pytest.raises(ValueError, match=r"columns, expected a multiple of 16"):
        quire.nvfp4_kv_dequantize(data[:, :4], scales)
    with pytest.raises(TypeError, match=r"data: got f32, expected u8"):
        quire.nvfp4_kv_dequantize(lib.array(np.zeros((5, 24)), "float32"), scales)
