"""Tensors whose numbers are read when they are needed. Their shapes and types are known before.

A checkpoint's weights are of this kind, and so is what is made of them: parts, transposed, scaled and joined ones. So a
graph is described without its weights, and whoever writes it holds one of them at a time. Nothing is kept: numbers
that are needed twice are read twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike, NDArray


class LazyArray:
    """A tensor that is read by `numpy.asarray`, or by whatever in numpy takes an array.

    Indexing, transposing and arithmetic give another one, of the same type, and read nothing.

    Args:
        shape: of the tensor.
        read: returns its numbers, in that shape and type.
        dtype: type of its numbers.
    """

    def __init__(self, shape: Sequence[int], read: Callable[[], NDArray[Any]], dtype: DTypeLike = np.float32) -> None:
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> LazyArray:  # noqa: N802 - numpy's name
        """With its axes in reverse order."""
        return LazyArray(self.shape[::-1], lambda: self._read().T, self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> LazyArray:
        # The shape is that of the same part of an array that has no numbers of its own.
        part = np.broadcast_to(np.empty((), np.bool_), self.shape)[key]
        return LazyArray(part.shape, lambda: np.asarray(self._read()[key]), self.dtype)

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 - numpy's
        # Every reading makes a new array, so that nobody needs a copy of it.
        return self._read().astype(dtype or self.dtype, copy=False)

    def __mul__(self, other: Array | float) -> LazyArray:
        return self._with(np.multiply, other)

    def __add__(self, other: Array | float) -> LazyArray:
        return self._with(np.add, other)

    def astype(self, dtype: DTypeLike) -> LazyArray:
        """The same numbers as another type."""
        return LazyArray(self.shape, lambda: self._read().astype(dtype), dtype)

    def _with(self, operation: Callable[..., Any], other: Array | float) -> LazyArray:
        shape = np.broadcast_shapes(self.shape, getattr(other, "shape", ()))
        return LazyArray(shape, lambda: operation(self._read(), np.asarray(other, self.dtype)), self.dtype)


Array = LazyArray | np.ndarray[Any, np.dtype[Any]]
"""Numbers that are read when they are needed, or that are there already."""


def columns_joined(arrays: Sequence[Array]) -> LazyArray:
    """[K, n] each, of one type, as one of [K, sum of n]."""
    shape = (arrays[0].shape[0], sum(array.shape[1] for array in arrays))
    return LazyArray(shape, lambda: np.concatenate([np.asarray(each) for each in arrays], axis=1), arrays[0].dtype)
