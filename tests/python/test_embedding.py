import numpy as np
import pytest
import quire


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gather_rows(lib, dtype):
    table = lib.array(np.arange(24).reshape(6, 4), dtype)
    indices = lib.array(np.array([5, 0, 5, 2]), "int32")
    out = quire.gather_rows(table, indices)
    np.testing.assert_array_equal(lib.numpy(out), lib.numpy(table)[[5, 0, 5, 2]])


def test_out_of_range_changes_nothing():
    out = np.full((2, 4), 7, np.float32)
    with pytest.raises(ValueError, match="gather_rows: indices"):
        quire.gather_rows(np.ones((6, 4), np.float32), np.array([0, 6], np.int32), out)
    np.testing.assert_array_equal(out, 7)
