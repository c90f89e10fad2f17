"""Text to token rows, truncated so that special tokens survive, in steps of bounded size.

The tokenizer is never mutated (its own truncation and padding are switched off once), so one serves all threads.
"""

from __future__ import annotations

import ctypes
import json
import math
from contextlib import contextmanager, suppress
from functools import partial, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from conch_contract import ConchError, FramedPair, InvalidInputError, longest_first, prompt_length, repeats_a_text
from tokenizers import Encoding, Tokenizer

from conch_client._errors import CHUNKS, PROMPT, QUERY, Item, ServerError
from conch_client._tokenization.long_texts import LongTexts, is_long, portions
from conch_client._tokenization.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import ParamSpec

    from conch_contract import Truncate

    from conch_client._tokenization.steps import Steps

    P = ParamSpec("P")
Result = TypeVar("Result")

_LONGEST_QUERY = 2**14
_BOTH, _PAIR = " and the query", " with the query"


class Token(NamedTuple):
    """A token of a text.

    Attributes:
        id: Its number in the vocabulary.
        text: What it stands for in the text; special tokens' own names.
        special: Whether the tokenizer's template put it there.
        start: The first character that it stands for; None for special tokens.
        stop: The first character after it; None for special tokens.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@contextmanager
def _readable(*damage: type[Exception]) -> Iterator[None]:
    """Turn errors of `tokenizers` into a ServerError: the bare Exception that it raises, and panics of its Rust code.

    A panic is a BaseException, which would end a gateway's thread or loop instead of one request. Other errors are not
    the tokenizer's and pass, but for those that damaged bytes cause.
    """
    try:
        yield
    except ConchError:
        raise
    except BaseException as error:
        if not isinstance(error, damage) and type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ServerError(f"the served tokenizer cannot be read ({error}); try a newer 'tokenizers'") from error


def _in_steps(method: Callable[P, Steps[Result]]) -> Callable[P, Steps[Result]]:
    """A method that tokenises, its errors as `_readable` has them."""

    @wraps(method)
    def steps(*args: P.args, **options: P.kwargs) -> Steps[Result]:
        with _readable():
            return (yield from method(*args, **options))

    return steps


class TextTokenizer:
    """A model's tokenizer.

    Args:
        content: Bytes of its ``tokenizer.json``.

    Raises:
        ServerError: The bytes are no tokenizer that this release of ``tokenizers`` can read.
    """

    def __init__(self, content: bytes) -> None:
        with _readable(AttributeError, LookupError, RecursionError, TypeError, ValueError):
            self._tokenizer = Tokenizer.from_str(content.decode())
            processor = self._tokenizer.post_processor
            # Its pickled state is its part of tokenizer.json: parsing all of that would take as long as loading it.
            if processor is not None and repeats_a_text(json.loads(processor.__getstate__())):
                raise ServerError("the served tokenizer's template has a text more than once; export the model again")
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._long = LongTexts(self._tokenizer)
        _free_what_parsing_took()

    @_in_steps
    def encode(
        self,
        texts: Sequence[str],
        *,
        max_length: int,
        truncate: Truncate,
        add_special_tokens: bool = True,
        prompt: str = "",
        item: Callable[[int], Item] = Item.text,
    ) -> Steps[Rows]:
        """Token rows of texts, none longer than ``max_length`` tokens with its special tokens.

        ``prompt`` is what the texts begin with and keep where their start is cut; ``item`` is the caller's item behind
        the text of a number.

        Raises:
            InvalidInputError: A text is too long and ``truncate`` is ``"none"``, or it has no token at all, or it is so
                long that it is not certain where to cut it, or there is no room behind its prompt.
        """
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False) if add_special_tokens else 0
        room = max(0, max_length - specials)
        rows: list[list[int]] = []
        truncated = []
        # The fast variant leaves out offsets, which nothing here needs.
        encode = partial(self._tokenizer.encode_batch_fast, add_special_tokens=False)
        for batch in _batches(encode, texts, room):
            for index, known in batch:
                bare = known
                if bare is None:
                    bare = yield from self._bare(texts[index], room, truncate, item(index))
                if len(bare) > room:
                    if truncate == "none":
                        raise _too_long(item(index), len(known) + specials if known else None, max_length)
                    bare = yield from self._shortened(bare, room, truncate, prompt)
                    truncated.append(index)
                rows.append(self._tokenizer.post_process(bare, None, add_special_tokens).ids)
            yield
        return Rows.of(rows, item=item, truncated=truncated)

    @_in_steps
    def tokens(self, texts: Sequence[str], *, add_special_tokens: bool, limit: int | None) -> Steps[list[list[Token]]]:
        """The tokens of each text, or the first ``limit`` of them, with their places in it.

        Raises:
            InvalidInputError: A text is so long that its first tokens are not certain.
        """
        rows: list[list[Token]] = []
        encode = partial(self._tokenizer.encode_batch, add_special_tokens=add_special_tokens)
        for batch in _batches(encode, texts, math.inf if limit is None else limit):
            for index, encoding in batch:
                if encoding is None:
                    bare = yield from self._long.first_tokens(texts[index], limit or 0, Item.text(index))
                    encoding = self._tokenizer.post_process(bare, None, add_special_tokens)  # noqa: PLW2901
                rows.append(_described(texts[index], encoding)[:limit])
            yield
        return rows

    @_in_steps
    def encode_chunks(self, prompt: str, chunks: Sequence[str], *, max_length: int) -> Steps[tuple[Rows, list[int]]]:
        """The one row of a document in chunks, after a prompt, and one past the last token of each chunk.

        A token belongs to the chunk that its last character is in. What comes before the first chunk (the prompt and
        the first special tokens) belongs to that, and the last special tokens to the last.

        Raises:
            InvalidInputError: They are more than ``max_length`` tokens together, or a chunk has no token.
        """
        text = prompt + "".join(chunks)
        room = max(0, max_length - self._tokenizer.num_special_tokens_to_add(is_pair=False))
        if is_long(text, room):
            bare = yield from self._bare(text, room, "end", CHUNKS)
        else:
            bare = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
        if len(bare.ids) > room:
            raise CHUNKS.error(
                f"have more than the {max_length} tokens together that the model takes; send fewer of them at once"
            )
        encoding = self._tokenizer.post_process(bare, None, add_special_tokens=True)
        ends = _chunk_ends(encoding, [len(prompt), *map(len, chunks)])
        return Rows.of([encoding.ids]), ends

    @_in_steps
    def prompt_length(self, prompt: str, *, max_length: int) -> Steps[int]:
        """Tokens at the beginning of a row that are those of its prompt, the first special ones included.

        Raises:
            InvalidInputError: The prompt is so long that it is not certain where to cut it.
        """
        room = max(0, max_length - self._tokenizer.num_special_tokens_to_add(is_pair=False))
        bare = yield from self._bare(prompt, room, "end", PROMPT)
        _cut(bare, room, "end")
        return prompt_length(self._tokenizer.post_process(bare, None, add_special_tokens=True).special_tokens_mask)

    @_in_steps
    def decode(self, rows: Rows, *, skip_special_tokens: bool) -> Steps[list[str]]:
        """The text of each row of ids; ids outside the vocabulary have none."""
        texts: list[str] = []
        for row in rows.tolist():
            texts += self._tokenizer.decode_batch([row], skip_special_tokens=skip_special_tokens)
            yield
        return texts

    @_in_steps
    def encode_pairs(
        self,
        query: str,
        documents: Sequence[str],
        *,
        max_length: int,
        truncate: Truncate,
        prompt: str = "",
        item: Callable[[int, str], Item] = Item.document,
    ) -> Steps[Rows]:
        """Token rows of (query, document) pairs with their segments, as the tokenizer's template joins them.

        A pair that is too long is cut as `longest_first` says. The tokens of a query of more than ``_LONGEST_QUERY``
        characters are not counted beyond the model's limit: it is taken to be no longer than a document that has more.

        ``prompt`` is what the query begins with and keeps where its start is cut; ``item`` is the caller's item behind
        the document of a number, with a suffix for what it was joined with.

        Raises:
            InvalidInputError: A pair is too long and ``truncate`` is ``"none"``, or it has no token at all, or it is so
                long that it is not certain where to cut it, or there is no room behind the prompt.
        """
        room = max(0, max_length - self._tokenizer.num_special_tokens_to_add(is_pair=True))
        encode = partial(self._tokenizer.encode_batch, add_special_tokens=False)
        if len(query) > _LONGEST_QUERY:
            bare_query = yield from self._bare(query, room, truncate, QUERY)
            _cut(bare_query, min(room + 1, len(bare_query.ids)), truncate)
        else:
            bare_query = encode([query])[0]
        query_length = len(bare_query.ids)
        queries = {query_length: bare_query}
        enough = max(room, query_length + 1)  # tokens of a document that show which of the two is the longer
        ids, segments, truncated = [], [], []
        for batch in _batches(encode, documents, enough):
            for index, known in batch:
                document = known or (yield from self._bare(documents[index], enough, truncate, item(index, "")))
                query_kept, document_kept = longest_first(query_length, len(document.ids), room)
                total = query_length + len(document.ids)
                if query_kept + document_kept < total:
                    if truncate == "none":
                        raise _too_long(item(index, _BOTH), total + max_length - room if known else None, max_length)
                    _cut(document, document_kept, truncate)
                    truncated.append(index)
                if query_kept not in queries:
                    copy = Encoding.merge([bare_query])  # truncation happens in place
                    queries[query_kept] = yield from self._shortened(copy, query_kept, truncate, prompt)
                pair = self._tokenizer.post_process(queries[query_kept], document)
                ids.append(pair.ids)
                segments.append(pair.type_ids)
            yield
        return Rows.of(ids, segments, item=lambda index: item(index, _PAIR), truncated=truncated)

    @_in_steps
    def encode_framed(
        self,
        template: str,
        query: str,
        documents: Sequence[str],
        *,
        instruction: str = "",
        max_length: int,
        truncate: Truncate,
    ) -> Steps[Rows]:
        """Token rows of pairs within their template, whose own words stay whole; pairs are cut as in ``encode_pairs``.

        Raises:
            InvalidInputError: The template with its instruction is too long, or a pair is too long and ``truncate`` is
                ``"none"``, or it has no token at all, or it is so long that it is not certain where to cut it.
        """
        read, enough = query, max_length
        if len(query) > _LONGEST_QUERY:
            read = yield from self._long.shortened(query, max_length, truncate, QUERY)
        else:
            bare = self._tokenizer.encode_batch_fast([query], add_special_tokens=False)[0]
            enough = max(enough, len(bare.ids))  # tokens of a document that show which of the two is the longer
        rows, truncated = [], []
        for part in portions(documents, len(template) + len(instruction) + len(read)):
            pairs = []
            for index in part:
                document = yield from self._long.shortened(documents[index], enough, truncate, Item.document(index))
                pairs.append(FramedPair.of(template, read, document, instruction))
            for index, pair, (ids, offsets) in zip(part, pairs, self._tokens_of(pairs), strict=True):
                if len(ids) > max_length:
                    if truncate == "none":
                        is_whole = (read, pair.text[slice(*pair.document)]) == (query, documents[index])
                        raise _too_long(Item.document(index, _BOTH), len(ids) if is_whole else None, max_length)
                    ids = [ids[place] for place in pair.cut(offsets, max_length, truncate)]  # noqa: PLW2901
                    truncated.append(index)
                if len(ids) > max_length:
                    raise InvalidInputError(
                        f"the instruction, with the words around it, has more tokens than the {max_length} that the "
                        "model takes; shorten it"
                    )
                rows.append(ids)
            yield
        return Rows.of(rows, item=lambda index: Item.document(index, _PAIR), truncated=truncated)

    def _tokens_of(self, pairs: Sequence[FramedPair]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Ids of the tokens of each pair, and their places in its text; both 0 for those that the tokenizer adds."""
        pieces = [pair.text[slice(*piece)] for pair in pairs for piece in pair.pieces]
        encodings = iter(self._tokenizer.encode_batch(pieces))
        for pair in pairs:
            ids: list[int] = []
            offsets: list[tuple[int, int]] = []
            for piece in pair.pieces:
                encoding = next(encodings)
                ids += encoding.ids
                offsets += [(begin + piece.begin, end + piece.begin) for begin, end in encoding.offsets]
            yield ids, offsets

    def _shortened(self, bare: Encoding, length: int, truncate: Truncate, prompt: str) -> Steps[Encoding]:
        """The ``length`` tokens that are kept of a text that begins with a prompt, as if what is cut was not there."""
        if truncate != "start" or not prompt:
            _cut(bare, length, truncate)
            return bare
        head = yield from self._bare(prompt, length, "end", PROMPT)
        if len(head.ids) >= length:
            raise PROMPT.error(
                f"leaves no room for the text: the model takes {length} tokens of both; shorten the prompt, or pass "
                "truncate='end'"
            )
        _cut(bare, length - len(head.ids), truncate)
        return Encoding.merge([head, bare])

    def _bare(self, text: str, room: int, truncate: Truncate, item: Item) -> Steps[Encoding]:
        """The text without special tokens: all of it, or more than ``room`` tokens of the end that is kept."""
        cut = self._long.last_tokens if truncate == "start" else self._long.first_tokens
        return (yield from cut(text, room + 1, item))


def _free_what_parsing_took() -> None:
    """Hand freed memory back to the system: of Qwen's merges, glibc would keep more than the tokenizer takes."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def _batches(
    encode: Callable[[list[str]], list[Encoding]], texts: Sequence[str], room: float
) -> Iterator[list[tuple[int, Encoding | None]]]:
    """Numbers of texts with their encodings, some at a time, in order; None for those that are too long to encode."""
    for part in portions(texts):
        whole = [index for index in part if not is_long(texts[index], room)]
        encodings = dict(zip(whole, encode([texts[index] for index in whole]), strict=True))
        yield [(index, encodings.get(index)) for index in part]


def _chunk_ends(encoding: Encoding, lengths: Sequence[int]) -> list[int]:
    """One past the last token of each chunk; ``lengths`` in characters, first that of what is before the chunks."""
    special = np.asarray(encoding.special_tokens_mask, np.bool_)
    # Ascending, also where a token has no character of its own.
    stops = np.maximum.accumulate([stop for _, stop in encoding.offsets])
    places = np.flatnonzero(~special)
    counts = np.searchsorted(stops[places], np.cumsum(lengths), side="right").tolist()
    for chunk, (before, upto) in enumerate(pairwise(counts)):
        if before == upto:
            raise Item.of("chunks", chunk).error("has no token of its own; join it with a neighbour")
    return [*(int(places[count]) for count in counts[1:-1]), len(special)]


def _described(text: str, encoding: Encoding) -> list[Token]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, name, special=True, start=None, stop=None)
        if special
        else Token(number, text[start:stop], special=False, start=start, stop=stop)
        for number, name, special, (start, stop) in parts
    ]


def _cut(encoding: Encoding, length: int, truncate: Truncate) -> None:
    """Keeps ``length`` tokens of an encoding.

    What is cut off stays with it, in parts as long as what is kept, and a pair is joined of every part of the one text
    with every part of the other. The second cut drops the parts of the first, and leaves one of a single token.
    """
    direction = "left" if truncate == "start" else "right"
    if length:
        encoding.truncate(length + 1, direction=direction)
    encoding.truncate(length, direction=direction)


def _too_long(item: Item, length: int | None, max_length: int) -> InvalidInputError:
    """`length` is None where it was not counted to the end."""
    has = f"has {length} tokens" if length is not None else f"has more than {max_length} tokens"
    return item.error(f"{has} and the model takes {max_length}; shorten it, or pass truncate='end' or 'start'")
