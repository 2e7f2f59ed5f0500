"""The layer check finds planted violations and accepts what is allowed."""

import check_layers
import pytest


def plant(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return [f"{f.path.as_posix()}:{f.line}: {f.text}" for f in check_layers.findings(root)]


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("include/quire/norm.h", '"core/check.h"'),
        ("include/quire/norm.h", "<cuda.h>"),
        ("src/plan/attention.cpp", '"core/log.h"'),
        ("src/plan/attention.cpp", '"quire/tensor.h"'),
        ("src/plan/attention.cpp", "<fmt/core.h>"),
        ("src/ops/norm.cpp", '"jit/compiler.h"'),
        ("src/cpu/norm.cpp", '"cuda/norm.h"'),
        ("src/cuda/norm.cpp", '"cpu/norm.h"'),
        ("src/cuda/norm.cpp", '"norm/rms_norm.cuh"'),
        ("src/jit/cache.cpp", '"cuda/launch.h"'),
        ("src/kv/kv_pool.cpp", '"ops/attention.h"'),
        ("python/src/norm.cpp", '"core/check.h"'),
        ("kernels/norm/rms_norm.cuh", "<cuda_fp16.h>"),
        ("kernels/norm/rms_norm.cuh", '"quire/tensor.h"'),
    ],
)
def test_forbidden_include_is_found(tmp_path, path, header):
    found = plant(tmp_path, path, f"// Why.\n#include {header}\n")
    assert found == [f for f in found if f.startswith(f"{path}:2: ") and "may not include" in f]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("include/quire/norm.h", '"quire/tensor.h"'),
        ("include/quire/norm.h", "<cstdint>"),
        ("src/plan/attention.cpp", '"attention/attention_types.h"'),
        ("src/ops/norm.cpp", '"cuda/norm.h"'),
        ("src/cpu/norm.cpp", "<hwy/highway.h>"),
        ("src/cuda/norm.cpp", '"jit/kernel_spec.h"'),
        ("src/cuda/norm.cpp", '"norm/norm_types.h"'),
    ],
)
def test_allowed_include_passes(tmp_path, path, header):
    assert plant(tmp_path, path, f"#include {header}\n") == []


@pytest.mark.parametrize(
    "line", ['asm("nop;");', "int i = threadIdx.x;", "__syncthreads();", "atomicAdd(p, 1);"]
)
def test_hardware_outside_the_tile_layer_is_found(tmp_path, line):
    text = f"inline void f() {{\n  {line}\n}}\n"
    assert len(plant(tmp_path, "kernels/norm/rms_norm.cuh", text)) == 1
    (tmp_path / "kernels/norm/rms_norm.cuh").unlink()
    assert plant(tmp_path, "kernels/tile/thread.h", text) == []
    assert plant(tmp_path, "kernels/norm/mask.h", f"// {line}\n") == []


def test_sizes(tmp_path):
    assert len(plant(tmp_path, "src/kv/wide.cpp", "// " + "x" * 98 + "\n")) == 1
    (tmp_path / "src/kv/wide.cpp").unlink()
    assert len(plant(tmp_path, "src/kv/long.cpp", "int x;\n" * 401)) == 1
    (tmp_path / "src/kv/long.cpp").unlink()
    body = "  ++x;\n" * 79
    found = plant(tmp_path, "src/kv/function.cpp", f"void f(int a,\n       int x) {{\n{body}}}\n")
    assert found == ["src/kv/function.cpp:1: function of 82 lines, aim 40, limit 80"]
    (tmp_path / "src/kv/function.cpp").unlink()
    body = "    x = 1\n" * 80
    found = plant(tmp_path, "tools/function.py", f"def f():\n{body}\n\nf()\n")
    assert found == ["tools/function.py:1: function of 81 lines, aim 40, limit 80"]
