"""The vector space of an answer, vectors of length 1, and the refusal of an answer from another space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conch_contract.errors import SpaceError
from conch_contract.tasks import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conch_contract.model_info import ModelInfo

_SHORT, _UNIT = "/{}", "/unit"
APPROXIMATELY = "~"
"""Before the space that a caller expects: vectors that a bridge maps into it will do as well."""


def space_of(info: ModelInfo, dimensions: int | None = None, *, normalize: bool = True) -> str | None:
    """The space of vectors that a call changes: ``ID/256`` where they are cut to 256 numbers.

    ``ID/unit`` where a model whose vectors have any length is asked for vectors of length 1.

    Args:
        info: The model.
        dimensions: Length that dense vectors are cut to; None for their own.
        normalize: Whether the call asks for length 1.
    """
    return _changed(info.space_id, info, dimensions, normalize=normalize)


def approximated_space_of(info: ModelInfo, dimensions: int | None = None, *, normalize: bool = True) -> str | None:
    """The space that the vectors of a bridge approximate, written as `space_of` writes it; None for other models."""
    return _changed(info.bridges_to, info, dimensions, normalize=normalize)


def check_space(expected: str | None, actual: str | None, model: str, approximated: str | None = None) -> None:
    """Refuse to answer from another space than the caller's vectors are in.

    Args:
        expected: The caller's; None for any. ``~ID`` also takes vectors that a bridge maps into the space ``ID``.
        actual: That of the answer; None where it is not known, or there are no vectors.
        model: Its name, for the message.
        approximated: The space that the answer approximates through a bridge; None for none.

    Raises:
        SpaceError: They differ.
    """
    if expected is None or expected == actual:
        return
    wanted = expected.removeprefix(APPROXIMATELY)
    if wanted != expected and wanted in (actual, approximated):
        return
    space = f"answers in the vector space {actual!r}" if actual else "states no vector space"
    if wanted == approximated:
        raise SpaceError(
            f"expect_space is {expected!r}, and {model} {space}, whose vectors a learned map brings close to that one; "
            f"expect {APPROXIMATELY + wanted!r} to search an index of it with them"
        )
    raise SpaceError(
        f"expect_space is {expected!r}, and {model} {space}; vectors of different spaces cannot be compared: ask the "
        "model that made yours, or embed your texts again"
    )


def units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors with length 1, float32 [n, dimension]; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _changed(space: str | None, info: ModelInfo, dimensions: int | None, *, normalize: bool) -> str | None:
    if space is None or info.task is Task.SPARSE:
        return space
    if dimensions is not None and dimensions != info.dimension:
        space += _SHORT.format(dimensions)
    return space + _UNIT if normalize and not info.normalized else space
