"""A model as plans and outputs need to know it, wherever it is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conch_contract import ModelInfo


class Model(NamedTuple):
    """A model and what is asked of it.

    Attributes:
        info: what it says of itself.
        space_id: the vector space of the answers; None where they are no vectors, or it is not known.
        identity: all that answers follow from, by name.
    """

    info: ModelInfo
    space_id: str | None
    identity: Mapping[str, str]
