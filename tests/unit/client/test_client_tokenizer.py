"""Truncation keeps special tokens and queries; the server's own settings in tokenizer.json do not count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conch_client import InvalidInputError, ServerError
from conch_client._tokenization.tokenizer import TextTokenizer, _readable
from conch_client._transport.deadline import Deadline
from conch_client.testing import fake_tokenizer_json
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.steps import finish

if TYPE_CHECKING:
    from conch_client._tokenization.rows import Rows
    from conch_client._tokenization.steps import Steps

CLS, SEP = 1, 2
reference = Tokenizer.from_str(fake_tokenizer_json().decode())
tokenizer = TextTokenizer(fake_tokenizer_json())
letters = st.text("abcdefgh", max_size=30)


def finished(steps: Steps[Rows]) -> Rows:
    return finish(steps, Deadline(60))


def ids_of(text: str) -> list[int]:
    return [reference.token_to_id(letter) for letter in text]


@pytest.mark.parametrize(
    ("truncate", "kept"), [("end", "abcd"), ("start", "cdef")], ids=["end-is-dropped", "start-is-dropped"]
)
def test_a_long_text_is_cut_between_its_special_tokens(truncate: str, kept: str) -> None:
    rows = finished(tokenizer.encode(["abcdef", "ab"], max_length=6, truncate=truncate))  # type: ignore[arg-type]
    assert rows.tolist() == [[CLS, *ids_of(kept), SEP], [CLS, *ids_of("ab"), SEP]]


@pytest.mark.parametrize("times", [1, 3000], ids=["short", "long"])
def test_a_prompt_stays_where_the_start_of_a_text_is_cut(times: int) -> None:
    rows = finished(tokenizer.encode([f"hg{'abc, ' * times}bcdef"], max_length=6, truncate="start", prompt="hg"))
    assert rows.tolist() == [[CLS, *ids_of("hgef"), SEP]]
    assert rows.truncated == (0,)


def test_a_prompt_stays_where_the_start_of_a_query_is_cut() -> None:
    rows = finished(
        tokenizer.encode_pairs("hgabcdef", ["a" * 9, "b"], max_length=11, truncate="start", prompt="hg"),
    )
    assert rows.tolist() == [
        [CLS, *ids_of("hgef"), SEP, *ids_of("aaaa"), SEP],
        [CLS, *ids_of("hgbcdef"), SEP, *ids_of("b"), SEP],
    ]


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused_where_it_may_not_be_cut() -> None:
    with pytest.raises(InvalidInputError, match="the prompt leaves no room for the text: the model takes 4 tokens"):
        finished(tokenizer.encode(["abcdhhh"], max_length=6, truncate="start", prompt="abcd"))
    assert finished(tokenizer.encode(["abcdhhh"], max_length=6, truncate="end", prompt="abcd")).tolist()


def test_a_long_text_can_be_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 8 tokens and the model takes 6"):
        finished(tokenizer.encode(["ab", "abcdef"], max_length=6, truncate="none"))


def test_without_special_tokens_the_text_has_all_the_room() -> None:
    rows = finished(tokenizer.encode(["abcdef"], max_length=4, truncate="end", add_special_tokens=False))
    assert rows.tolist() == [ids_of("abcd")]


def test_a_text_without_any_token_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[0\] has no token"):
        finished(tokenizer.encode([""], max_length=8, truncate="end", add_special_tokens=False))


def test_padding_and_truncation_of_the_file_are_ignored() -> None:
    limited = Tokenizer.from_str(fake_tokenizer_json().decode())
    limited.enable_truncation(4)
    limited.enable_padding(length=20)
    rows = finished(TextTokenizer(limited.to_str().encode()).encode(["abcdef"], max_length=64, truncate="end"))
    assert rows.tolist() == [[CLS, *ids_of("abcdef"), SEP]]


@given(st.lists(letters, min_size=1, max_size=5), st.integers(2, 40), st.sampled_from(["left", "right"]))
def test_single_texts_are_cut_as_the_tokenizers_library_cuts_them(texts: list[str], limit: int, side: str) -> None:
    expected = Tokenizer.from_str(reference.to_str())
    expected.enable_truncation(limit, direction=side)
    truncate = "start" if side == "left" else "end"
    rows = finished(tokenizer.encode(texts, max_length=limit, truncate=truncate))  # type: ignore[arg-type]
    assert rows.tolist() == [encoding.ids for encoding in expected.encode_batch(texts)]


def test_a_short_query_survives_a_long_document() -> None:
    rows = finished(tokenizer.encode_pairs("abc", ["h" * 50], max_length=10, truncate="end"))
    assert rows.tolist() == [[CLS, *ids_of("abc"), SEP, *ids_of("hhhh"), SEP]]


def test_a_long_query_leaves_half_the_room_to_a_long_document_and_is_whole_for_a_short_one() -> None:
    rows = finished(tokenizer.encode_pairs("abcdefgh", ["h" * 50, "a"], max_length=12, truncate="end"))
    assert rows.tolist() == [
        [CLS, *ids_of("abcd"), SEP, *ids_of("hhhhh"), SEP],
        [CLS, *ids_of("abcdefgh"), SEP, *ids_of("a"), SEP],
    ]


def test_a_pair_that_is_too_long_can_be_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"documents\[1\] and the query has 13 tokens and the model takes 12"):
        finished(tokenizer.encode_pairs("abcd", ["a", "abcdef"], max_length=12, truncate="none"))


def test_a_file_that_is_no_tokenizer_is_the_servers_fault() -> None:
    with pytest.raises(ServerError, match="cannot be read"):
        TextTokenizer(b"{}")


def test_a_tokenizer_that_panics_over_a_text_is_the_servers_fault() -> None:
    content = json.loads(fake_tokenizer_json())
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    unknown = {"type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": {}}
    content["post_processor"] = unknown
    with pytest.raises(ServerError, match="cannot be read"):
        finished(TextTokenizer(json.dumps(content).encode()).encode(["abc"], max_length=8, truncate="end"))


def test_a_template_that_repeats_a_text_is_refused() -> None:
    content = json.loads(fake_tokenizer_json())
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}] * 20
    template = {"type": "TemplateProcessing", "single": pair[:1], "pair": pair, "special_tokens": {}}
    content["post_processor"] = {"type": "Sequence", "processors": [template]}
    with pytest.raises(ServerError, match="more than once"):
        TextTokenizer(json.dumps(content).encode())


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), TypeError("ours"), KeyError("ours"), ValueError()])
def test_an_error_of_ours_does_not_pass_for_the_tokenizers(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, _readable():
        raise error
    assert caught.value is error


def test_the_tokenizers_own_errors_are_named() -> None:
    with pytest.raises(ServerError, match="cannot be read"), _readable():
        raise Exception("as the library raises")
    with pytest.raises(ServerError, match="cannot be read"), _readable():
        raise type("PanicException", (BaseException,), {})("as its Rust code panics")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"3", b"{}", b'{"post_processor": 3}', b"[" * 100_000])
def test_damaged_bytes_are_named(content: bytes) -> None:
    with pytest.raises(ServerError, match="cannot be read"):
        TextTokenizer(content)
