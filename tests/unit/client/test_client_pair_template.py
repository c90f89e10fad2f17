"""A reranker that wraps query and document in words of its own reads them whole, whatever the length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client._tokenization.tokenizer import TextTokenizer
from conch_client._transport.deadline import Deadline
from conch_client.testing import FakeModel, fake_tokenizer_json
from conch_contract import FramedPair
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.steps import finish

if TYPE_CHECKING:
    from conch_client.testing import FakeServer
    from conch_contract import Truncate

TEMPLATE = "<{query}|{document}>!"
TOKENIZER = Tokenizer.from_str(fake_tokenizer_json().decode())
OWN = TextTokenizer(fake_tokenizer_json())
texts = st.text("abcxyz", max_size=20)


def read(query: str, document: str, length: int, truncate: Truncate = "end") -> str:
    """What of the pair is left, as text."""
    rows = finish(OWN.encode_framed(TEMPLATE, query, [document], max_length=length, truncate=truncate), Deadline(60))
    return str(TOKENIZER.decode(rows.tolist()[0]))


@pytest.mark.parametrize(
    ("query", "document"), [("{document}", "d"), ("q", "{query}"), ("", ""), ("größer", "日本語 🐚")]
)
def test_what_is_filled_in_is_not_filled_in_again(query: str, document: str) -> None:
    pair = FramedPair.of(TEMPLATE, query, document)
    assert pair.text == f"<{query}|{document}>!"
    assert pair.text[slice(*pair.query)] == query
    assert pair.text[slice(*pair.document)] == document


def test_the_document_may_come_first() -> None:
    assert FramedPair.of("{document} answers {query}?", "q", "d").text == "d answers q?"


def test_parts_of_a_template_are_tokenised_apart_where_it_says_so() -> None:
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merged = Tokenizer(models.BPE(vocab=vocabulary | {"?\u010a": len(vocabulary)}, merges=[("?", "\u010a")]))
    merged.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merged.decoder = decoders.ByteLevel()
    tokenizer = TextTokenizer(str(merged.to_str()).encode())

    def tokens(template: str, length: int = 99) -> list[str]:
        steps = tokenizer.encode_framed(template, "a?", ["b?" * 9, "c?"], max_length=length, truncate="end")
        return [merged.decode([number]) for number in finish(steps, Deadline(60)).tolist()[1]]

    assert tokens("{query}\n{document}\n!") == ["a", "?\n", "c", "?\n", "!"]
    assert tokens("{query}{split}\n{document}{split}\n!") == ["a", "?", "\n", "c", "?", "\n", "!"]
    assert tokens("{query}{split}\n{document}{split}\n!", length=6) == ["a", "\n", "c", "?", "\n", "!"]


@given(query=texts, document=texts, length=st.integers(6, 40))
def test_the_frame_stays_and_the_document_loses_before_the_query(query: str, document: str, length: int) -> None:
    found = read(query, document, length)
    whole = f"<{query}|{document}>!"
    room = length - 6  # two special tokens and four of the frame
    assert len(found) <= length - 2
    asked, _, rest = found.removeprefix("<").removesuffix(">!").partition("|")
    assert query.startswith(asked)
    assert document.startswith(rest)
    if len(query) + len(document) <= room:
        assert found == whole
    else:
        assert len(asked) + len(rest) == room
        assert asked == query or len(asked) >= room // 2


def test_the_start_is_lost_where_that_is_asked_for() -> None:
    assert read("ab", "wxyz", 10, "start") == "<ab|yz>!"


async def test_pairs_are_sent_within_the_template(client: Any, server: FakeServer) -> None:
    server.models["pairs"] = FakeModel(task="cross-encoder", parameters={"pair_template": TEMPLATE, "max_length": "16"})
    await client.rerank("ab", ["cd", "z" * 40], model="pairs")
    request = next(r for r in reversed(server.received) if r.model_name == "pairs")
    rows = np.frombuffer(request.raw_input_contents[0], "<i8").reshape(tuple(request.inputs[0].shape))
    assert sorted(str(TOKENIZER.decode(row.tolist())) for row in rows) == ["<ab|cd>!", f"<ab|{'z' * 8}>!"]
    with pytest.raises(InvalidInputError, match=r"documents\[1\] and the query has 48 tokens"):
        await client.rerank("ab", ["cd", "z" * 40], model="pairs", truncate="none")


INSTRUCTED = {"pair_template": "[{instruction}]<{query}|{document}>", "default_instruction": "find", "max_length": "24"}


@pytest.mark.parametrize(
    ("instruction", "read"), [(None, "[find]"), ("", "[]"), ("{query}", "[{query}]"), ("größer", "[größer]")]
)
async def test_the_instruction_has_its_place(
    client: Any, server: FakeServer, instruction: str | None, read: str
) -> None:
    server.models["pairs"] = FakeModel(task="cross-encoder", parameters=INSTRUCTED)
    await client.rerank("ab", ["cd"], model="pairs", instruction=instruction)
    request = server.received[-1]
    ids = np.frombuffer(request.raw_input_contents[0], "<i8").tolist()
    assert str(TOKENIZER.decode(ids)) == f"{read}<ab|cd>"


async def test_a_long_document_is_cut_and_the_instruction_is_not(client: Any, server: FakeServer) -> None:
    server.models["pairs"] = FakeModel(task="cross-encoder", parameters=INSTRUCTED)
    await client.rerank("ab", ["z" * 40], model="pairs", instruction="0123456789")
    ids = np.frombuffer(server.received[-1].raw_input_contents[0], "<i8").tolist()
    assert str(TOKENIZER.decode(ids)) == "[0123456789]<ab|zzzzz>"


@pytest.mark.parametrize(
    ("parameters", "instruction", "message"),
    [
        (INSTRUCTED, "x" * 30, "the instruction, with the words around it, has more tokens than the 24"),
        (INSTRUCTED, 7, "instruction must be a str, not int"),
        ({"pair_template": TEMPLATE}, "find", "instruction: pairs reads no instruction; leave it out"),
        ({}, "find", "instruction: pairs reads no instruction; leave it out"),
    ],
    ids=["too long", "a number", "a template without one", "no template"],
)
async def test_an_instruction_that_cannot_be_read_is_refused(
    client: Any, server: FakeServer, parameters: dict[str, str], instruction: Any, message: str
) -> None:
    server.models["pairs"] = FakeModel(task="cross-encoder", parameters=parameters)
    with pytest.raises(InvalidInputError, match=message):
        await client.rerank("ab", ["cd"], model="pairs", instruction=instruction)


async def test_late_interaction_reads_no_instruction(client: Any) -> None:
    with pytest.raises(InvalidInputError, match="instruction: overlap reads no instruction"):
        await client.rerank("ab", ["cd"], model="overlap", instruction="find")
