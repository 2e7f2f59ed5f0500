import numpy as np
import pytest
import quire
import reference

RNG = np.random.default_rng(5)


def states(count):
    v = RNG.standard_normal((4, count, 3, 16))
    s = RNG.standard_normal((4, count, 3)) * 5
    v[0, :, 0], s[0, :, 0] = 0, -np.inf  # all empty
    v[1, 0], s[1, 0] = 0, -np.inf  # one empty
    return v, s


@pytest.mark.parametrize("lse_base, base", [("e", np.e), (2, 2.0)])
def test_merge(lib, close, lse_base, base):
    v, s = states(2)
    parts = [lib.array(x, "float32") for x in (v[:, 0], s[:, 0], v[:, 1], s[:, 1])]
    for out, expected in zip(
        quire.merge_state(*parts, lse_base=lse_base), reference.merge(v, s, base)
    ):
        close(lib.numpy(out), expected, 1e-6)
    v, s = states(5)
    pair = quire.merge_states(lib.array(v, "float32"), lib.array(s, "float32"), lse_base=lse_base)
    for out, expected in zip(pair, reference.merge(v, s, base)):
        close(lib.numpy(out), expected, 1e-6)


@pytest.mark.parametrize("mask_dtype", ["uint8", "bool", None])
def test_in_place(mutable_lib, close, mask_dtype):
    v, s = states(2)
    parts = [mutable_lib.array(x, "float32") for x in (v[:, 0], s[:, 0], v[:, 1], s[:, 1])]
    keep = np.array([True, False, True, False])
    mask = None if mask_dtype is None else mutable_lib.array(keep, mask_dtype)
    quire.merge_state_in_place(*parts, mask)
    v_all, s_all = reference.merge(v, s)
    if mask_dtype is not None:
        v_all = np.where(keep[:, None, None], v_all, v[:, 0])
        s_all = np.where(keep[:, None], s_all, s[:, 0])
    close(mutable_lib.numpy(parts[0]), v_all, 1e-6)
    close(mutable_lib.numpy(parts[1]), s_all, 1e-6)


def test_errors():
    v, s = np.ones((2, 3, 16), np.float32), np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="merge_state: lse_base: got 10"):
        quire.merge_state(v, s, v, s, lse_base=10)
    with pytest.raises(TypeError, match="merge_state: s_a"):
        quire.merge_state(v, s.astype(np.float16), v, s)
    with pytest.raises(ValueError, match="merge_states: v: got rank 3"):
        quire.merge_states(v, s)
    with pytest.raises(ValueError, match="merge_state: v_b"):
        quire.merge_state(v, s, v[:1], s)
