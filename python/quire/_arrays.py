"""What Quire must know about array libraries: memory, dtype, device, stream, new arrays.

One adapter a library, chosen by the type of an array: PyTorch, NumPy, CuPy, JAX, and everything
else that has ``__dlpack__`` and ``__dlpack_device__``. No library but NumPy is imported here: an
array that is passed has brought its own.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import tvm_ffi

from ._library import library

Array = Any
"""A tensor of any library that speaks DLPack."""

_DTYPE_NAMES = {
    "float32": "f32",
    "float": "f32",
    "float16": "f16",
    "half": "f16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "bool": "boolean",
}
_LONG_NAMES = {short: long for long, short in _DTYPE_NAMES.items() if long not in ("float", "half")}


@functools.cache
def dtype_name(dtype: Any) -> str:
    """Quire's name ("bf16", "f8e4m3", …) of a dtype of any library, or of its name.

    Raises TypeError for a dtype that Quire does not have.
    """
    text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype)
    text = text.rsplit(".", 1)[-1]
    if text in _LONG_NAMES:
        return text
    if text not in _DTYPE_NAMES:
        raise TypeError(f"dtype: got {dtype}, expected one of {', '.join(_LONG_NAMES.values())}")
    return _DTYPE_NAMES[text]


def _device_index(device: str) -> int:
    return int(device.rpartition(":")[2]) if ":" in device else 0


class _DlpackArrays:
    """Any object with ``__dlpack__``. New arrays are ``tvm_ffi.Tensor``, which have it too."""

    def export(self, array: Array) -> Any:
        return array if isinstance(array, tvm_ffi.Tensor) else tvm_ffi.from_dlpack(array)

    def export_output(self, array: Array, op: str, name: str) -> Any:
        return self.export(array)

    def dtype(self, array: Array) -> str:
        return dtype_name(array.dtype)

    def device(self, array: Array) -> str:
        kind, index = array.__dlpack_device__()
        return f"cuda:{int(index)}" if int(kind) in (2, 13) else "cpu"

    def stream(self, array: Array) -> int:
        """The handle of the library's current stream on the device of `array`."""
        return self.stream_on(self.device(array))

    def stream_on(self, device: str) -> int:
        return 0

    def empty(self, shape: Sequence[int], dtype: str, like: Array) -> Array:
        return library.empty(tuple(shape), dtype, self.device(like))

    def finish(self, array: Array, stream: int) -> Array:
        """What the caller gets for an array of `empty` that an operator has written."""
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.from_dlpack(self.export(array))

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        """A host array as an array of this library on the device of `like`."""
        return self._same_device(tvm_ffi.from_dlpack(array), like)

    def move(self, array: Array, like: Array) -> Array:
        """`array` on the device of `like`; itself when it is there."""
        return self._same_device(array, like)

    def _same_device(self, array: Array, like: Array) -> Array:
        if self.device(array) == self.device(like):
            return array
        raise ValueError(
            f"device: got {self.device(array)}, expected {self.device(like)}: move the array first"
        )

    def contiguous(self, array: Array) -> Array:
        """`array`, or a row-major copy of it."""
        return array

    def repeat(self, array: Array, count: int) -> Array:
        """An array [1] as [count]."""
        return self.from_numpy(np.repeat(self.to_numpy(array), count), array)

    def as_bytes(self, array: Array) -> Array:
        """The memory of a contiguous array as u8 [bytes]."""
        if self.dtype(array) == "u8":
            return array
        raise TypeError(f"dtype: got {self.dtype(array)}, expected u8")

    def cast(self, array: Array, dtype: str) -> Array:
        if self.dtype(array) == dtype:
            return array
        raise TypeError(f"dtype: got {self.dtype(array)}, expected {dtype}")


class _NumpyArrays(_DlpackArrays):
    def export(self, array: np.ndarray) -> Any:
        if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat16", "float8")):
            bits = array.view(np.uint8 if array.dtype.itemsize == 1 else np.uint16)
            return library.reinterpret(self._import(bits), dtype_name(array.dtype))
        return self._import(array)

    def _import(self, array: np.ndarray) -> tvm_ffi.Tensor:
        if array.flags.writeable:
            return tvm_ffi.from_dlpack(array)
        if np.lib.NumpyVersion(np.__version__) < "2.1.0":
            return tvm_ffi.from_dlpack(array.copy())
        return tvm_ffi.from_dlpack(array.__dlpack__(max_version=(1, 0)))

    def export_output(self, array: np.ndarray, op: str, name: str) -> Any:
        if not array.flags.writeable:
            raise ValueError(f"{op}: {name}: got a read-only NumPy array, expected a writable one")
        return self.export(array)

    def device(self, array: np.ndarray) -> str:
        return "cpu"

    def empty(self, shape: Sequence[int], dtype: str, like: Array) -> np.ndarray:
        return np.empty(tuple(shape), _numpy_dtype(dtype))

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def from_numpy(self, array: np.ndarray, like: Array) -> np.ndarray:
        return array

    def contiguous(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array)

    def as_bytes(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(-1).view(np.uint8)

    def cast(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return array.astype(_numpy_dtype(dtype), copy=False)


def _numpy_dtype(dtype: str) -> np.dtype:
    if dtype in ("bf16", "f8e4m3", "f8e5m2"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, _LONG_NAMES[dtype]))
    return np.dtype(_LONG_NAMES[dtype])


class _TorchArrays(_DlpackArrays):
    def __init__(self) -> None:
        self.torch = sys.modules["torch"]
        # What PyTorch's own generated code calls; current_stream() costs microseconds.
        self._raw_stream = getattr(self.torch._C, "_cuda_getCurrentRawStream", None)

    def export(self, array: Array) -> Any:
        return array.detach() if array.requires_grad else array

    def dtype(self, array: Array) -> str:
        return dtype_name(array.dtype)

    def device(self, array: Array) -> str:
        if array.is_cuda:
            return f"cuda:{array.get_device()}"
        if array.device.type != "cpu":
            raise NotImplementedError(f"device: got {array.device}, expected cpu or cuda")
        return "cpu"

    def stream(self, array: Array) -> int:
        if not array.is_cuda:
            return 0
        if self._raw_stream is None:
            return self.torch.cuda.current_stream(array.device).cuda_stream
        return self._raw_stream(array.get_device())

    def stream_on(self, device: str) -> int:
        return 0 if device == "cpu" else self.torch.cuda.current_stream(device).cuda_stream

    def empty(self, shape: Sequence[int], dtype: str, like: Array) -> Array:
        torch_dtype = getattr(self.torch, _LONG_NAMES[dtype])
        return self.torch.empty(tuple(shape), dtype=torch_dtype, device=like.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.detach().cpu().numpy()

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        return self.torch.from_numpy(array).to(like.device)

    def move(self, array: Array, like: Array) -> Array:
        return array.to(like.device)

    def contiguous(self, array: Array) -> Array:
        return array.contiguous()

    def repeat(self, array: Array, count: int) -> Array:
        return array.expand(count).contiguous()

    def as_bytes(self, array: Array) -> Array:
        return array.reshape(-1).view(self.torch.uint8)

    def cast(self, array: Array, dtype: str) -> Array:
        return array.to(getattr(self.torch, _LONG_NAMES[dtype]))


class _CupyArrays(_DlpackArrays):
    def __init__(self) -> None:
        self.cupy = sys.modules["cupy"]

    def export(self, array: Array) -> Any:
        # stream=-1: no synchronization; the operator runs on CuPy's current stream itself.
        return tvm_ffi.from_dlpack(array.__dlpack__(stream=-1))

    def device(self, array: Array) -> str:
        return f"cuda:{array.device.id}"

    def stream_on(self, device: str) -> int:
        with self.cupy.cuda.Device(_device_index(device)):
            return self.cupy.cuda.get_current_stream().ptr

    def empty(self, shape: Sequence[int], dtype: str, like: Array) -> Array:
        with like.device:
            return self.cupy.empty(tuple(shape), _numpy_dtype(dtype))

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.get()

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        with like.device:
            return self.cupy.asarray(array)

    def contiguous(self, array: Array) -> Array:
        return self.cupy.ascontiguousarray(array)

    def as_bytes(self, array: Array) -> Array:
        return array.reshape(-1).view(np.uint8)

    def cast(self, array: Array, dtype: str) -> Array:
        return array.astype(_numpy_dtype(dtype), copy=False)


class _JaxArrays(_DlpackArrays):
    """JAX arrays are immutable and scheduled by JAX: inputs are waited for, outputs are new arrays
    that are complete when they are returned."""

    def __init__(self) -> None:
        self.jax = sys.modules["jax"]

    def export(self, array: Array) -> Any:
        return tvm_ffi.from_dlpack(array.block_until_ready())

    def export_output(self, array: Array, op: str, name: str) -> Any:
        raise TypeError(
            f"{op}: {name}: got a JAX array, which is immutable, expected an array that can be "
            "written"
        )

    def finish(self, array: Array, stream: int) -> Array:
        device = self.device(array)
        if device != "cpu":
            library.synchronize(device, stream)
        return self.jax.dlpack.from_dlpack(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def from_numpy(self, array: np.ndarray, like: Array) -> Array:
        return self.jax.device_put(array, like.device)

    def cast(self, array: Array, dtype: str) -> Array:
        return array.astype(_LONG_NAMES[dtype])


_ADAPTERS = {
    "torch": _TorchArrays,
    "numpy": _NumpyArrays,
    "cupy": _CupyArrays,
    "jax": _JaxArrays,
    "jaxlib": _JaxArrays,
}
_by_type: dict = {}


@functools.cache
def _adapter(cls: type) -> _DlpackArrays:
    return cls()


def arrays_of(array: Array) -> _DlpackArrays:
    """The adapter of the library that `array` belongs to. TypeError for what is no array."""
    adapter = _by_type.get(type(array))
    return adapter if adapter is not None else _find_adapter(array)


def _find_adapter(array: Array) -> _DlpackArrays:
    for base in type(array).__mro__:
        package = base.__module__.split(".")[0]
        if package in _ADAPTERS and hasattr(array, "shape"):
            adapter = _adapter(_ADAPTERS[package])
            if package == "jax" and isinstance(array, adapter.jax.core.Tracer):
                raise TypeError("array: got a traced JAX value, expected a concrete array, no jit")
            break
    else:
        if not hasattr(array, "__dlpack__"):
            raise TypeError(
                f"array: got {type(array).__name__}, expected a tensor of PyTorch, NumPy, CuPy or "
                "JAX, or an object with __dlpack__"
            )
        adapter = _adapter(_DlpackArrays)
    _by_type[type(array)] = adapter
    return adapter


def export(array: Optional[Array]) -> Any:
    """What the library takes for `array`; None stays None."""
    return None if array is None else arrays_of(array).export(array)


def export_tensor(array: Array) -> tvm_ffi.Tensor:
    """The same as an object, for lists of arrays."""
    exported = export(array)
    return exported if isinstance(exported, tvm_ffi.Tensor) else tvm_ffi.from_dlpack(exported)


def export_output(array: Optional[Array], op: str, name: str) -> Any:
    """The same for an array that will be written. TypeError or ValueError if it cannot be."""
    return None if array is None else arrays_of(array).export_output(array, op, name)


def to_host_int32(values: Any, op: str, name: str) -> np.ndarray:
    """Integers of a list or of an array on any device as contiguous int32 [n] on the host.

    Copies from a CUDA device wait for it. TypeError unless the values are integers, ValueError for
    a number that does not fit.
    """
    is_array = hasattr(values, "__dlpack__") or hasattr(values, "shape")
    array = arrays_of(values).to_numpy(values) if is_array else np.asarray(values, dtype=None)
    if array.size == 0 and not is_array:
        array = array.astype(np.int32)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{op}: {name}: got {array.dtype}, expected integers")
    if array.dtype != np.int32:
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError(f"{op}: {name}: got a number beyond int32")
        array = array.astype(np.int32)
    return np.ascontiguousarray(array)


def stream_of(array: Array, stream: Optional[int]) -> int:
    """The handle of `stream`, or of the current stream of the array's library."""
    return arrays_of(array).stream(array) if stream is None else int(stream)


def per_row(value: Any, dtype: str, default: Any) -> Tuple[Any, Any]:
    """(tensor or None, scalar) of an argument that is one value for all rows or one a row."""
    if value is None:
        return None, default
    if hasattr(value, "shape") and len(value.shape) > 0:
        return export(arrays_of(value).cast(value, dtype)), default
    return None, type(default)(value)
