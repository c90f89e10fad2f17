"""Token rows: many token-id sequences of different lengths as one flat array, padded only when they are sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conch_client._errors import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray


class TokenIds(list[list[int]]):
    """Token ids of each text.

    Attributes:
        truncated: Indices of the texts that lost tokens.
    """

    def __init__(self, ids: Iterable[list[int]], truncated: Sequence[int] = ()) -> None:
        super().__init__(ids)
        self.truncated = tuple(truncated)


class Matrix(NamedTuple):
    """Rows as a model takes them: int64 [rows, width], 0 where a row has ended.

    ``attention_mask`` is 1 for a token, 2 for one that no other attends to, and 3 for one of a prompt that is not
    pooled.
    The pad id does not matter: where ``attention_mask`` is 0 the server computes nothing.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """``n`` rows of token ids, made with ``of``, none empty. Everything that the client sends is rows.

    Attributes:
        ids: int64 [total], row after row.
        lengths: int64 [n].
        segments: int64 [total], 1 for the tokens of a pair's second text; None when all are 0.
        masked: int64 [n], how many tokens at the end of each row no other attends to; None when there are none.
        truncated: Numbers of the rows whose text lost tokens, ascending.
        prompt: How many tokens at the beginning of every row are not pooled.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    segments: NDArray[np.int64] | None = None
    masked: NDArray[np.int64] | None = None
    truncated: tuple[int, ...] = ()
    prompt: int = 0
    _ends: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", np.cumsum(self.lengths))

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        masked: NDArray[np.int64] | None = None,
        item: Callable[[int], Item] = Item.text,
        truncated: Sequence[int] = (),
    ) -> Rows:
        """Packs lists of ids (known to be integers in range) and, for pairs, of segment numbers.

        ``item`` is the caller's item behind the row of a number; ``truncated`` is as the attribute.

        Raises:
            InvalidInputError: A row is empty. The server would compute nothing for it.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        if not lengths.all():
            raise item(int(lengths.argmin())).error("has no token that the model could read; leave it out")
        flat_segments = None if segments is None else _flat(segments)
        return cls(_flat(rows), lengths, flat_segments, masked, tuple(truncated))

    def __len__(self) -> int:
        return len(self.lengths)

    def tolist(self) -> TokenIds:
        """The rows as lists of ids."""
        return TokenIds((row.tolist() for row in np.split(self.ids, self._ends[:-1])), self.truncated)

    def matrix(self, index: NDArray[np.intp]) -> Matrix:
        """The rows with these numbers, in this order, padded to the longest of them."""
        lengths = self.lengths[index]
        columns = np.arange(lengths.max())
        real = columns < lengths[:, None]
        positions = (self._ends[index] - lengths)[:, None] + columns
        # Positions of padding run into the next row or, after the last, beyond the array: clipped, they do no harm.
        ids = np.where(real, self.ids.take(positions, mode="clip"), 0)
        segments = np.zeros_like(ids) if self.segments is None else self.segments.take(positions, mode="clip") * real
        mask = real.astype(np.int64)
        if self.masked is not None:
            mask += real & (columns >= (lengths - self.masked[index])[:, None])
        mask[:, : self.prompt] *= 3
        return Matrix(ids, mask, segments)


def _flat(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(rows), np.int64)
