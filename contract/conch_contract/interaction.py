"""How queries and documents are written for late interaction: ColBERT's markers, query augmentation and skip list.

A row of token ids shows by itself whether it is a query (its second token is the query marker), so that ids that were
tokenised earlier are computed exactly as the text is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

QUERY_PROMPT = "query"
"""Name of the prompt that makes a text a query; with any other, or none, it is a document."""


@dataclass(frozen=True)
class Interaction:
    """The rules of one model (Khattab and Zaharia 2020).

    Attributes:
        query_marker: Id put after a query's first token; None for none.
        document_marker: The same for documents.
        query_length: Most tokens of a query, the marker included.
        document_length: Most tokens of a document, the marker included.
        augmentation: Id of the token that is appended to queries up to ``query_length`` (query augmentation); None
            where queries stay as long as they are.
        attends_to_augmentation: Whether a query's tokens attend to the appended ones.
        skip_list: Ids of tokens that are not compared in documents (punctuation).
    """

    query_marker: int | None
    document_marker: int | None
    query_length: int
    document_length: int
    augmentation: int | None
    attends_to_augmentation: bool
    skip_list: tuple[int, ...]

    @classmethod
    def from_parameter(cls, text: str) -> Interaction:
        """Reads what `to_parameter` wrote; raises ValueError, TypeError or KeyError for anything else."""
        stated = json.loads(text)
        own = {_FIELDS.get(key, key): value for key, value in stated.items()}
        return cls(**{**own, "skip_list": tuple(own["skip_list"])})

    def to_parameter(self) -> str:
        """The rules as JSON, for `config.pbtxt`."""
        return json.dumps({_KEYS.get(name, name): value for name, value in vars(self).items()})

    @property
    def masks_augmentation(self) -> bool:
        """Whether queries end in tokens that no other token attends to."""
        return self.augmentation is not None and not self.attends_to_augmentation

    def room(self, *, query: bool) -> int:
        """Most tokens of a tokenised query or document before `row` adds to it."""
        marker = self.query_marker if query else self.document_marker
        return (self.query_length if query else self.document_length) - (marker is not None)

    def row(self, ids: Sequence[int], *, query: bool) -> list[int]:
        """The ids that the model reads: with the marker, and for queries with their augmentation.

        Args:
            ids: Tokens of a text, special tokens included, at most `room` of them.
            query: Whether the text is a query, else a document.
        """
        marker = self.query_marker if query else self.document_marker
        row = [*ids[:1], *([] if marker is None else [marker]), *ids[1:]]
        if query and self.augmentation is not None:
            row += [self.augmentation] * (self.query_length - len(row))
        return row

    def masked(self, row: Sequence[int]) -> int:
        """How many tokens at the end of a row no other token attends to."""
        if not self.masks_augmentation:
            return 0
        return sum(1 for _ in takewhile(lambda token: token == self.augmentation, reversed(row)))

    def compared(self, ids: NDArray[np.int64], *, query: bool | None = None) -> NDArray[np.bool_]:
        """Which tokens of a row late interaction compares: bool [n] for int64 [n].

        Args:
            ids: The row.
            query: Whether it is a query; None where only its marker tells.
        """
        if query is None:
            query = self.query_marker is not None and len(ids) > 1 and bool(ids[1] == self.query_marker)
        return np.ones(len(ids), np.bool_) if query else ~np.isin(ids, self.skip_list)


_FIELDS = {"filler": "augmentation", "filler_seen": "attends_to_augmentation", "skipped": "skip_list"}
"""Fields by their keys in format 1 of the parameters, where the two differ."""
_KEYS = {name: key for key, name in _FIELDS.items()}
