"""A model as plans and outputs see it, whether a server or this process runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from conch_contract import ModelInfo


class Model(NamedTuple):
    """A model that computes a job.

    Attributes:
        info: its description.
        space_id: vector space of the answers; None if they are not vectors, or if it is not known.
        schema: columns of the answers, see `outputs.columns.added`.
        identity: facts on which the answers depend, by name.
    """

    info: ModelInfo
    space_id: str | None
    schema: pa.Schema
    identity: Mapping[str, str]
