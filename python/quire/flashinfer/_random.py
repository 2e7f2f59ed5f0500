"""Seeds and offsets for sampling calls that bring none: generators are advanced on the host."""

from __future__ import annotations

import sys
import threading
from typing import Any, Optional, Tuple

import numpy as np

from .._arrays import Array, arrays_of

_default = np.random.default_rng()
_default_lock = threading.Lock()


def next_seed_and_offset(array: Array, generator: Optional[Any], increment: int) -> Tuple[int, int]:
    """(seed, offset) that no earlier call with the same generator got.

    generator: a torch.Generator, a numpy.random.Generator, or None for the default one of the
    library that `array` belongs to. A CUDA generator of PyTorch keeps its seed and moves its offset
    by `increment`; the others are asked for a new seed.
    """
    torch = sys.modules.get("torch")
    if torch is not None and (generator is None and isinstance(array, torch.Tensor)):
        generator = _default_torch_generator(torch, array)
    if torch is not None and isinstance(generator, torch.Generator):
        return _from_torch(torch, generator, increment)
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"sampling: generator: got {type(generator).__name__}, expected torch.Generator or "
            "numpy.random.Generator"
        )
    with _default_lock:
        return int((generator or _default).integers(0, 2**63 - 1)), 0


def _default_torch_generator(torch: Any, array: Array) -> Any:
    if not array.is_cuda:
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[array.get_device()]


def _from_torch(torch: Any, generator: Any, increment: int) -> Tuple[int, int]:
    if generator.device.type == "cpu":
        seed = torch.randint(0, 2**63 - 1, (1,), dtype=torch.int64, generator=generator)
        return int(seed), 0
    seed, offset = generator.get_state().view(torch.int64).tolist()
    state = torch.tensor([seed, offset + (increment + 3) // 4 * 4], dtype=torch.int64)
    generator.set_state(state.view(torch.uint8))
    return seed, offset


def seeds_of_rows(value: Any, name: str, num_rows: int) -> Any:
    """A seed or offset argument as an int or an i64 tensor with one element a row."""
    if not hasattr(value, "shape") or len(value.shape) == 0:
        return int(value)
    if value.shape[0] not in (1, num_rows):
        got = f"{value.shape[0]} elements"
        raise ValueError(f"sampling: {name}: got {got}, expected 1 or {num_rows}")
    arrays = arrays_of(value)
    if str(value.dtype).endswith("uint64"):
        value = value.view(getattr(sys.modules.get("torch"), "int64", np.int64))
    value = arrays.cast(value, "i64")
    return value if value.shape[0] == num_rows else arrays.repeat(value, num_rows)
