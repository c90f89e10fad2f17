"""Long documents: only their beginning is read, or several parts, of which the best one counts.

Cohere documents both: `max_tokens_per_doc` cuts a document, `max_chunks_per_doc` splits one that the model cannot read
at once. A part begins with a word where there is one near, and leaves room for the query, so that none is cut again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from conch_client import AsyncClient, InvalidInputError, ModelInfo, Token
from conch_contract import FramedPair, Task, Truncate

from conch_gateway.errors import InvalidValueError
from conch_gateway.jobs import RerankJob

_RESERVED = 8  # a pair's special tokens, four at most, and what a piece may have more than it had within the text
_SEARCHED = 4  # a part may end up to a fourth earlier, where a word begins


@dataclass(frozen=True, slots=True)
class Parts:
    """The texts that are scored.

    Attributes:
        texts: the parts of the first document, then those of the second, ...
        documents: place of the document that each is of.
        notes: for the caller: which documents were cut, and which were split.
    """

    texts: list[str]
    documents: list[int]
    notes: tuple[str, ...] = ()


class LongDocuments:
    """Cuts and splits documents by the tokens of the model that is to read them."""

    def __init__(self, client: AsyncClient, timeout_s: float, max_parts: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._max_parts = max_parts

    async def parts(self, info: ModelInfo, job: RerankJob, truncate: Truncate) -> Parts:
        """Return what is read of each document.

        Raises:
            InvalidInputError: the parts do not hold all of a document, and nothing may be cut.
            InvalidValueError: they are more than a request may have documents.
        """
        documents, count = job.documents, job.document_parts
        asked, room = job.document_tokens or inf, await self._room(info, job) if count > 1 else inf
        most = min(asked, room * count)
        if most >= info.max_length and count == 1:
            return Parts(documents, list(range(len(documents))))
        # No token is shorter than a byte, so that most documents need not be tokenised to know that they are short.
        places = [place for place, text in enumerate(documents) if len(text.encode()) > min(most, room)]
        rows = dict(zip(places, await self._tokens(info, documents, places, int(most) + 1), strict=True))
        cut = [place for place, row in rows.items() if len(row) > most]
        if cut and truncate == "none" and most < asked:
            msg = f"documents {cut} have more than the {most} tokens that {count} parts hold; allow more, or cut them"
            raise InvalidInputError(msg, cut)
        pieces = [
            list(_split(text, rows[place][: int(most)], room, is_cut=place in cut)) if place in rows else [text]
            for place, text in enumerate(documents)
        ]
        if (found := sum(map(len, pieces))) > self._max_parts:
            msg = (
                f"max_chunks_per_doc: the documents are {found} parts, and at most {self._max_parts} are read in one "
                "request; allow fewer parts, or send fewer documents"
            )
            raise InvalidValueError(msg, param="max_chunks_per_doc")
        return Parts(
            [piece for each in pieces for piece in each],
            [place for place, each in enumerate(pieces) for _ in each],
            tuple(_notes(cut, most, [place for place, each in enumerate(pieces) if len(each) > 1])),
        )

    async def _room(self, info: ModelInfo, job: RerankJob) -> int:
        """Tokens of a document that fit beside the query, which keeps half of a pair at most, as when pairs are cut."""
        if info.task == Task.LATE_INTERACTION:
            rules = info.interaction
            return max(1, (info.max_length if rules is None else rules.room(query=False)) - _RESERVED)
        template = info.pair_template
        instruction = info.instruction_text(job.instruction)
        frame = info.prompt_text() if template is None else FramedPair.of(template, "", "", instruction).text
        around, query = await self._tokens(info, [frame, job.query], range(2), info.max_length)
        both = info.max_length - len(around) - _RESERVED
        return max(1, both - min(len(query), both // 2))

    async def _tokens(
        self, info: ModelInfo, texts: Sequence[str], places: Sequence[int], limit: int
    ) -> list[list[Token]]:
        """Return the first tokens of the texts at these places."""
        if not places:
            return []
        try:
            return await self._client.tokens(
                [texts[place] for place in places],
                model=info,
                prompt="",
                add_special_tokens=False,
                limit=limit,
                timeout_s=self._timeout_s,
            )
        except InvalidInputError as error:
            raise error.moved(places) from error


def _split(text: str, tokens: Sequence[Token], room: float, *, is_cut: bool) -> Iterator[str]:
    """Yield the pieces of a text, each of at most so many of its tokens."""
    begin, first = 0, 0
    while len(tokens) - first > room:
        first = _word_near(text, tokens, first + int(room), int(room) // _SEARCHED)
        yield text[begin : tokens[first].start]
        begin = tokens[first].start or 0
    yield text[begin : tokens[-1].stop if is_cut else None]


def _word_near(text: str, tokens: Sequence[Token], at: int, before: int) -> int:
    """Return the last token up to `at` that begins a word, no more than so many before it; without one, `at`."""
    for number in range(at, at - before, -1):
        start = tokens[number].start or 0
        if text[start - 1 : start + 1].strip() != text[start - 1 : start + 1]:
            return number
    return at


def _notes(cut: list[int], most: float, split: list[int]) -> Iterator[str]:
    if cut:
        yield f"documents {cut} are longer than {most} tokens, and only those were read"
    if split:
        yield f"documents {split} were read in parts, of which the one with the highest score counts"
