"""The vector space of an answer, and the refusal of an answer from another one than the caller's vectors are in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conch_contract.errors import SpaceError
from conch_contract.tasks import Task

if TYPE_CHECKING:
    from conch_contract.model_info import ModelInfo

_SHORT, _UNIT = "/{}", "/unit"


def space_of(info: ModelInfo, dimensions: int | None = None, *, normalize: bool = True) -> str | None:
    """The space of vectors that a call changes: ``ID/256`` where they are cut to 256 numbers.

    ``ID/unit`` where a model whose vectors have any length is asked for vectors of length 1.

    Args:
        info: The model.
        dimensions: Length that dense vectors are cut to; None for their own.
        normalize: Whether the call asks for length 1.
    """
    space = info.space_id
    if space is None or info.task is Task.SPARSE:
        return space
    if dimensions is not None and dimensions != info.dimension:
        space += _SHORT.format(dimensions)
    return space + _UNIT if normalize and not info.normalized else space


def check_space(expected: str | None, actual: str | None, model: str) -> None:
    """Refuse to answer from another space than the caller's vectors are in.

    Args:
        expected: The caller's; None for any.
        actual: That of the answer; None where it is not known, or there are no vectors.
        model: Its name, for the message.

    Raises:
        SpaceError: They differ.
    """
    if expected is None or expected == actual:
        return
    space = f"answers in the vector space {actual!r}" if actual else "states no vector space"
    raise SpaceError(
        f"expect_space is {expected!r}, and {model} {space}; vectors of different spaces cannot be compared: ask the "
        "model that made yours, or embed your texts again"
    )
