"""The README's examples are what they say: the Python one runs, the C++ one is from the example."""

import pathlib
import re

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]


def code_block(language: str) -> str:
    text = (ROOT / "README.md").read_text()
    return re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE).group(1)


def test_python_example():
    names: dict = {}
    exec(compile(code_block("python"), "README.md", "exec"), names)
    q, k, v = (names[name].astype(np.float64) for name in "qkv")
    pages = {0: ([5, 0, 3], 40), 1: ([1, 6], 17)}
    for request, (ids, length) in pages.items():
        keys, values = (pool[ids].reshape(-1, 2, 64)[:length] for pool in (k, v))
        for head in range(8):
            logits = keys[:, head // 4] @ q[request, head] / 8
            lse = np.log(np.exp(logits).sum())
            exact = np.exp(logits - lse) @ values[:, head // 4]
            np.testing.assert_allclose(names["out"][request, head], exact, rtol=4e-3)
            np.testing.assert_allclose(names["lse"][request, head], lse, rtol=1e-4)


def test_cpp_example_is_from_the_compiled_one():
    """Statement by statement; only line breaks may differ."""

    def statements(code: str) -> list:
        code = re.sub(r"//.*", "", code)
        return ["".join(statement.split()) for statement in code.split(";")]

    compiled = statements((ROOT / "examples/paged_decode.cpp").read_text())
    shown = [s for s in statements(code_block("cpp")) if s]
    assert len(shown) > 3
    for statement in shown:
        assert any(s.endswith(statement) for s in compiled), statement
