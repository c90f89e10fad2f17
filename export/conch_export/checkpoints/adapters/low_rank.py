"""What a low-rank adapter does to one weight (Hu et al. 2021; with a magnitude for each output, Liu et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from conch_export.model.arrays import LazyArray

    Read = Callable[[], NDArray[np.float32]]
    """Reads a tensor when it is needed."""


class Tensors(Protocol):
    """Access to the tensors of a checkpoint or an adapter; see `weights.Weights`."""

    @property
    def tensors(self) -> Mapping[str, tuple[Path, str]]:
        """File and stored name, by name."""

    def known_as(self, name: str, /) -> str | None:
        """The name in `tensors` of one that may have another prefix; None where there is none."""

    def shape(self, name: str, /) -> tuple[int, ...]:
        """The shape of one."""

    def array(self, name: str, /) -> LazyArray:
        """One of them."""

    def part(self, name: str, index: int, /) -> NDArray[np.float32]:
        """One of several that lie one behind the other in one."""


@dataclass(frozen=True)
class LowRank:
    """weight + scale * left @ right, of a weight as its file has it: [outputs, inputs], or [entries, width] of a table.

    Attributes:
        left: [rows of the weight, rank].
        right: [rank, columns of the weight].
        scale: of the product.
        magnitude: [rows of the weight], the length that every row of the sum is brought to; None leaves them (DoRA).
    """

    left: Read
    right: Read
    scale: float
    magnitude: Read | None = None

    def merged(self, weight: NDArray[np.float32], rows: slice = slice(None)) -> NDArray[np.float32]:
        """The weight with the adapter in it.

        Args:
            weight: these rows of it.
            rows: which they are.
        """
        total = weight + np.float32(self.scale) * (self.left()[rows] @ self.right())
        if self.magnitude is None:
            return np.asarray(total, np.float32)
        lengths = np.linalg.norm(total, axis=1)
        return np.asarray(total * (self.magnitude()[rows] / lengths)[:, None], np.float32)
