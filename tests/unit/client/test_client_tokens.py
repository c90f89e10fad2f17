"""What ``tokens`` and ``decode`` promise: a tokenizer's view of texts, over a small real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_client import InvalidInputError

if TYPE_CHECKING:
    from conch_client.testing import FakeServer


async def test_tokens_tell_their_place_in_the_text(client: Any) -> None:
    (tokens,) = await client.tokens(["ab"])

    assert [(token.text, token.special, token.start, token.stop) for token in tokens] == [
        ("[CLS]", True, None, None),
        ("a", False, 0, 1),
        ("b", False, 1, 2),
        ("[SEP]", True, None, None),
    ]


async def test_their_ids_are_those_of_tokenize(client: Any) -> None:
    ids = [[token.id for token in row] for row in await client.tokens(["ab", "c d"])]

    assert ids == await client.tokenize(["ab", "c d"])


async def test_special_tokens_can_be_left_out(client: Any) -> None:
    (tokens,) = await client.tokens(["ab"], add_special_tokens=False)

    assert [token.text for token in tokens] == ["a", "b"]


async def test_a_prompt_counts_in_their_places(client: Any) -> None:
    (tokens,) = await client.tokens(["a"], prompt="q: ", add_special_tokens=False)

    assert tokens[-1].start == 3


async def test_nothing_is_cut(client: Any, server: FakeServer) -> None:
    (tokens,) = await client.tokens(["a" * 500], add_special_tokens=False)

    assert len(tokens) == 500


async def test_decoding_gives_the_text_back(client: Any) -> None:
    texts = ["hello world", "a"]

    assert await client.decode(await client.tokenize(texts)) == texts


async def test_decoding_can_keep_special_tokens(client: Any) -> None:
    ids = await client.tokenize(["a"])

    assert await client.decode(ids, skip_special_tokens=False) == ["[CLS]a[SEP]"]


async def test_ids_outside_the_vocabulary_have_no_text(client: Any) -> None:
    assert await client.decode([[2**31 - 1]]) == [""]


@pytest.mark.parametrize("ids", [["text"], [], [1, 2], [[-1]], [["a"]]], ids=str)
async def test_only_rows_of_ids_can_be_decoded(client: Any, ids: Any) -> None:
    with pytest.raises(InvalidInputError):
        await client.decode(ids)
