"""How late-interaction models want queries and documents written: ColBERT's markers, fillers and skipped tokens.

A row tells by itself what it is (a query's second token is the query marker), so ids from ``tokenize`` are computed
exactly as the text is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from conch_client._rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from conch_client._inputs import Truncate
    from conch_client._steps import Steps
    from conch_client._tokenizer import TextTokenizer

QUERY = "query"
"""Name of the prompt that makes a text a query; with any other, or none, it is a document."""


@dataclass(frozen=True)
class Interaction:
    """The rules of one model (Khattab and Zaharia 2020).

    Attributes:
        query_marker: Id put after a query's first token; None for none.
        document_marker: The same for documents.
        query_length: Most tokens of a query, the marker included.
        document_length: Most tokens of a document, the marker included.
        filler: Id that fills queries up to their length; None leaves them as they are.
        filler_seen: Whether a query's tokens attend to its fillers.
        skipped: Ids that have no vector in documents (punctuation).
    """

    query_marker: int | None
    document_marker: int | None
    query_length: int
    document_length: int
    filler: int | None
    filler_seen: bool
    skipped: tuple[int, ...]

    def encode(
        self,
        tokenizer: TextTokenizer,
        texts: Sequence[str],
        *,
        query: bool,
        truncate: Truncate,
        label: Callable[[int], str] = "texts[{}]".format,
    ) -> Steps[list[list[int]]]:
        """Token ids of queries or of documents; errors are those of ``TextTokenizer.encode``."""
        marker = self.query_marker if query else self.document_marker
        length = self.query_length if query else self.document_length
        marks = [] if marker is None else [marker]
        found = yield from tokenizer.encode(texts, max_length=length - len(marks), truncate=truncate, label=label)
        rows = [[*row[:1], *marks, *row[1:]] for row in found.tolist()]
        if query and self.filler is not None:
            rows = [row + [self.filler] * (length - len(row)) for row in rows]
        return rows

    def rows(self, ids: Sequence[Sequence[int]]) -> Rows:
        """Rows that know which of their tokens no other attends to."""
        unseen = None if self.filler is None or self.filler_seen else np.array([self._fillers(row) for row in ids])
        return Rows.of(ids, unseen=unseen)

    def has_vector(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which tokens of a row late interaction compares: bool [n]."""
        is_query = self.query_marker is not None and len(ids) > 1 and ids[1] == self.query_marker
        return np.ones(len(ids), np.bool_) if is_query else ~np.isin(ids, self.skipped)

    def _fillers(self, row: Sequence[int]) -> int:
        return sum(1 for _ in takewhile(lambda token: token == self.filler, reversed(row)))
