import runpy
from pathlib import Path

import numpy as np
from reference import attention

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def test_paged_decode(close, capsys):
    names = runpy.run_path(str(EXAMPLES / "paged_decode.py"))
    key, value, q, out, lse = (names[n].astype(float) for n in ("key", "value", "q", "out", "lse"))
    assert capsys.readouterr().out == "[40, 17] tokens in 5 pages; out (2, 8, 64) float16\n"
    parts = [
        attention(q[:1], key[:40], value[:40]),
        attention(q[1:], key[40:], value[40:]),
    ]
    close(out, np.concatenate([p[0] for p in parts]), 2e-3)
    close(lse, np.concatenate([p[1] for p in parts]), 1e-5)
