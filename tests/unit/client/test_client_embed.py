"""What ``embed`` and ``tokenize`` promise, over a small real server and with both kinds of client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError, NotComputedError, SpaceError
from conch_client.testing import FakeModel

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

TEXTS = ["a", "bcd" * 9, "", "efgh", "ü", "i" * 200, "jk"] * 3


def sent_rows(server: FakeServer) -> list[int]:
    return [request.inputs[0].shape[0] for request in server.received if not request.model_name.endswith(".tokenizer")]


def sent_mask(server: FakeServer) -> Any:
    """The mask of the last request."""
    request = server.received[-1]
    place = [tensor.name for tensor in request.inputs].index("attention_mask")
    return np.frombuffer(request.raw_input_contents[place], "<i8").reshape(request.inputs[place].shape).tolist()


async def test_vectors_come_in_the_order_of_the_texts(client: Any) -> None:
    together = await client.embed(TEXTS)
    alone = np.concatenate([await client.embed([text]) for text in TEXTS])
    assert together.dtype == np.float32
    assert together.flags.writeable
    np.testing.assert_allclose(together, alone, atol=1e-6)


async def test_long_lists_are_split_to_what_the_model_takes(client: Any, server: FakeServer) -> None:
    await client.embed(TEXTS)
    assert sum(sent_rows(server)) == len(TEXTS)
    assert max(sent_rows(server)) <= server.models["letters"].max_rows


async def test_token_ids_of_tokenize_give_the_vectors_of_the_text(client: Any) -> None:
    ids = await client.tokenize(TEXTS)
    assert max(map(len, ids)) == 64
    np.testing.assert_array_equal(await client.embed(ids), await client.embed(TEXTS))


async def test_tokens_can_be_had_without_special_ones(client: Any) -> None:
    with_special, without = [(await client.tokenize(["ab"], add_special_tokens=flag))[0] for flag in (True, False)]
    assert with_special[1:-1] == without


async def test_truncation_drops_the_end_that_is_named(client: Any) -> None:
    long = "a" * 62 + "b" * 62
    np.testing.assert_array_equal(await client.embed([long]), await client.embed(["a" * 62]))
    np.testing.assert_array_equal(await client.embed([long], truncate="start"), await client.embed(["b" * 62]))
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 126 tokens and the model takes 64"):
        await client.embed(["a", long], truncate="none")


@pytest.mark.parametrize(
    ("options", "put_before"),
    [
        ({}, "passage: "),
        ({"prompt_name": "query"}, "query: "),
        ({"prompt": "other: "}, "other: "),
        ({"prompt": ""}, ""),
    ],
    ids=["default", "by-name", "own-text", "none-at-all"],
)
async def test_prompts_go_before_the_text(client: Any, server: FakeServer, options: Any, put_before: str) -> None:
    prompts = json.dumps({"query": "query: ", "passage": "passage: "})
    server.models["letters"].parameters = {"prompts": prompts, "default_prompt_name": "passage"}
    assert await client.tokenize(["x"], **options) == await client.tokenize([put_before + "x"], prompt="")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ["q: "]}, "the prompt must be a str, not list"),
        ({"prompt": "q\ud800"}, "the prompt has a lone surrogate at character 1"),
        ({"prompt_name": ["query"]}, "prompt_name must be a str, not list"),
    ],
    ids=["list", "lone-surrogate", "list-of-names"],
)
async def test_a_prompt_that_is_no_text_is_refused(client: Any, options: Any, message: str) -> None:
    for call in (client.embed, client.tokenize, client.tokens):
        with pytest.raises(InvalidInputError, match=message):
            await call(["x"], **options)


async def test_the_tokens_of_a_prompt_that_is_not_pooled_are_marked(client: Any, server: FakeServer) -> None:
    server.models["letters"].parameters = {"prompts": '{"query": "q: "}', "pools_prompt": "false"}
    await client.embed(["ab"], prompt_name="query")
    assert sent_mask(server) == [[3, 3, 3, 3, 1, 1, 1]]  # the first special token, and a token for each byte
    await client.embed(["ab", "a" * 99], prompt="ü")
    assert sorted(row[:5] for row in sent_mask(server)) == [[3, 3, 3, 1, 1]] * 2
    for plain in ({"texts": ["ab"]}, {"texts": await client.tokenize(["ab"], prompt_name="query")}):
        await client.embed(**plain)
        assert set(sent_mask(server)[0]) == {1}


@pytest.mark.parametrize(
    "parameters",
    [{}, {"pools_prompt": "false"}, {"max_characters": "64"}],
    ids=["pooled", "not pooled", "few characters"],
)
async def test_a_prompt_is_read_although_the_start_of_its_text_is_cut(
    client: Any, server: FakeServer, parameters: dict[str, str]
) -> None:
    server.models["letters"].parameters = {"prompts": '{"query": "q: "}', **parameters}
    long, kept = "a" * 99 + "b" * 50, "a" * 9 + "b" * 50
    vectors = await client.embed([long], prompt_name="query", truncate="start")
    np.testing.assert_array_equal(vectors, await client.embed([kept], prompt_name="query"))


async def test_a_prompt_that_is_not_pooled_is_never_cut_and_never_all_of_a_text(
    client: Any, server: FakeServer
) -> None:
    server.models["letters"].parameters = {"pools_prompt": "false", "max_length": "6"}
    await client.embed(["abcd"], prompt="q: ", truncate="start")
    assert sent_mask(server) == [[3, 3, 3, 3, 1, 1]]
    with pytest.raises(InvalidInputError, match="the prompt leaves no room for the text"):
        await client.embed(["abc"], prompt="q:  ", truncate="start")
    await client.embed(["abc"], prompt="longer than the model takes")
    assert sent_mask(server) == [[3, 3, 3, 3, 3, 1]]
    unframed = json.loads(server.models["letters"].tokenizer_json) | {"post_processor": None}
    server.models["unframed"] = FakeModel(
        parameters={"pools_prompt": "false"}, tokenizer_json=json.dumps(unframed).encode()
    )
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has no token beside its prompt") as caught:
        await client.embed(["a", ""], model="unframed", prompt="q: ")
    assert caught.value.indices == (1,)


async def test_a_prompt_must_be_known_and_is_either_a_name_or_a_text(client: Any, server: FakeServer) -> None:
    server.models["letters"].parameters = {"prompts": '{"query": "q: "}'}
    with pytest.raises(InvalidInputError, match="has no prompt 'passage'; it has: query"):
        await client.embed(["x"], prompt_name="passage")
    with pytest.raises(InvalidInputError, match="prompt or prompt_name, not both"):
        await client.embed(["x"], prompt="p", prompt_name="query")
    with pytest.raises(InvalidInputError, match="a prompt goes before a text"):
        await client.embed([[1, 5, 2]], prompt_name="query")


async def test_vectors_can_be_cut_where_the_model_was_trained_for_it(client: Any, server: FakeServer) -> None:
    whole = await client.embed(["abc"])
    np.testing.assert_array_equal(await client.embed(["abc"], dimensions=8), whole)
    with pytest.raises(InvalidInputError, match="was not trained for shorter vectors"):
        await client.embed(["abc"], dimensions=4)
    server.models["nested"] = FakeModel(parameters={"matryoshka_dimensions": "[8, 4]"})
    cut = await client.embed(["abc"], dimensions=4, model="nested")
    np.testing.assert_allclose(cut, whole[:, :4] / np.linalg.norm(whole[:, :4]), atol=1e-6)
    server.models["centred"] = FakeModel(parameters={"matryoshka_dimensions": "[8, 4]", "matryoshka_centred": "true"})
    np.testing.assert_array_equal(await client.embed(["abc"], dimensions=8, model="centred"), whole)
    shifted = (whole - whole.mean())[:, :4]
    cut = await client.embed(["abc"], dimensions=4, model="centred")
    np.testing.assert_allclose(cut, shifted / np.linalg.norm(shifted), atol=1e-6)
    with pytest.raises(InvalidInputError, match="at most 8"):
        await client.embed(["abc"], dimensions=9, model="nested")
    with pytest.raises(InvalidInputError, match="dimensions must be an integer"):
        await client.embed(["abc"], dimensions=0)


async def test_normalisation_is_done_where_the_model_does_not(client: Any, server: FakeServer) -> None:
    server.models["raw"] = FakeModel(parameters={"normalize": "false"})
    raw = await client.embed(["abc"], model="raw", normalize=False)
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    np.testing.assert_allclose(await client.embed(["abc"], model="raw"), raw / np.linalg.norm(raw), rtol=1e-6)
    with pytest.raises(InvalidInputError, match="export it with --no-normalize"):
        await client.embed(["abc"], model="letters", normalize=False)


async def test_ids_that_no_token_has_are_named(client: Any) -> None:
    with pytest.raises(NotComputedError, match=r"refused text\(s\) \[1, 5\]: a token id is outside"):
        await client.embed([[1, 5, 2], [1, 99_999, 2], [1], [1], [1], [2**31 - 1]])


async def test_too_many_ids_are_refused(client: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 65 token ids and the model takes 64"):
        await client.embed([[1], [5] * 65])


async def test_segments_are_sent_only_to_models_that_take_them(client: Any, server: FakeServer) -> None:
    await client.embed(["abc"])
    await client.rerank("abc", ["abd"], model="pairs")
    sent = {request.model_name: [tensor.name for tensor in request.inputs] for request in server.received}
    assert sent["letters"] == ["input_ids", "attention_mask"]
    assert sent["pairs"] == ["input_ids", "attention_mask", "token_type_ids"]


async def test_vectors_of_another_space_than_expected_are_refused_before_any_is_computed(
    client: Any, server: FakeServer
) -> None:
    server.models["letters"].parameters = {"checkpoint_sha256": "2" * 64}
    space = (await client.model("letters")).space_id
    assert len(await client.embed(["a"], expect_space=space)) == 1
    computed = len(sent_rows(server))
    with pytest.raises(SpaceError, match=rf"'0', and letters answers in the vector space '{space}'"):
        await client.embed(["a"], expect_space="0")
    assert len(sent_rows(server)) == computed
