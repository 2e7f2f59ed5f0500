"""The output arrays of one call, given by the caller or new."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from ._arrays import Array, arrays_of, export, export_output, stream_of


class Outputs:
    """Of a call of `op` whose new arrays are of the library and on the device of `like`."""

    def __init__(self, op: str, like: Array, stream: Optional[int]) -> None:
        self.op = op
        self.like = like
        self.arrays = arrays_of(like)
        self.stream = stream_of(like, stream)
        self._results: List[Tuple[Optional[Array], bool]] = []  # and whether it is new

    def add(self, name: str, given: Optional[Array], shape: Sequence[int], dtype: str) -> Any:
        """The next output, as the library takes it."""
        array = self.arrays.empty(shape, dtype, self.like) if given is None else given
        self._results.append((array, given is None))
        return export_output(array, self.op, name)

    def add_scale(
        self, scale: Any, scales: Optional[Array], shape: Sequence[int]
    ) -> Tuple[Any, float, bool]:
        """A number, a tensor of one element, or None: `scales` of `shape` is the next output.

        As (tensor or None, number, whether the tensor is written).
        """
        if scale is None:
            return self.add("scales", scales, shape, "f32"), 1.0, True
        if scales is not None:
            raise ValueError(f"{self.op}: scales: got an array beside scale, expected one of them")
        self._results.append((None, False))
        if hasattr(scale, "shape"):
            return export(scale), 1.0, False
        return None, float(scale), False

    def results(self) -> Tuple[Any, ...]:
        """What the caller gets, after the operator has written."""
        return tuple(
            self.arrays.finish(array, self.stream) if is_new else array
            for array, is_new in self._results
        )
