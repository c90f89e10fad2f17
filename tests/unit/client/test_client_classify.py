"""What ``classify`` promises: a score for each label, of texts and of pairs, in the order of the inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError
from conch_client.testing import FakeModel, FakeServer

from tests.unit.client.conftest import SEGMENTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INPUTS: list[Any] = ["aab!", ("ab", "ab"), "!!", ["#", "aa"], ("ab", "c"), "x", "y" * 80, ("q" * 80, "r" * 80)]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer({"letters": FakeModel(), "classes": FakeModel(task="classification", inputs=SEGMENTED)}) as server:
        yield server


async def test_scores_are_the_softmax_of_the_logits_by_label(client: Any) -> None:
    labels, raw, *_ = await client.classify(INPUTS, raw_scores=True)
    found = await client.classify(INPUTS)
    assert found.labels == labels == ("repeats", "!", '"', "#")
    assert raw[0].tolist() == [0, 1, 0, 0]  # one letter occurs twice, which counts from -1 on, and one "!"
    assert raw[1].tolist() == [1, 0, 0, 0]
    assert raw[3].tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(found.scores, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
async def test_the_model_says_how_logits_become_scores(
    connect: Callable[..., Any], server: FakeServer, activation: str
) -> None:
    server.models["classes"].parameters["activation"] = activation
    client = connect()
    raw, found = await client.classify(INPUTS, raw_scores=True), await client.classify(INPUTS)
    expected = raw.scores if activation == "identity" else 1 / (1 + np.exp(-raw.scores))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


async def test_an_input_has_the_scores_that_it_has_alone(client: Any) -> None:
    together = await client.classify(INPUTS)
    for index, each in enumerate(INPUTS):
        np.testing.assert_array_equal((await client.classify([each])).scores[0], together.scores[index])


async def test_pairs_have_segments_and_texts_have_none(client: Any, server: FakeServer) -> None:
    found = await client.classify([("ab", "c"), "abc"])
    sent = next(request for request in server.received if request.model_name == "classes")
    rows = np.frombuffer(sent.raw_input_contents[2], "<i8").reshape(2, -1)
    assert sorted(rows.sum(axis=1).tolist()) == [0, 2]  # "c" and the separator after it
    assert found.tokens == (1 + 2 + 1 + 1 + 1) + (1 + 3 + 1)


async def test_the_prompt_comes_before_every_input(connect: Callable[..., Any], server: FakeServer) -> None:
    plain = await connect().classify(["##x", ("##x", "y")], raw_scores=True)
    prompts = {"prompts": '{"p": "##"}', "default_prompt_name": "p"}
    server.models["classes"] = replace(server.models["classes"], parameters=prompts)
    prompted = await connect().classify(["x", ("x", "y")], raw_scores=True)
    np.testing.assert_array_equal(prompted.scores, plain.scores)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("ab", "inputs must be a list; wrap the single text"),
        ([], "inputs is empty"),
        (["a", 7], r"inputs\[1\] must be a str, not int"),
        (["a", ("b",)], r"inputs\[1\] must be a text or a pair of texts, not 1 of them"),
        ([("a", "b"), ("a", None)], r"inputs\[1\] must be a str, not NoneType"),
        (["a", ("b", "c" * 80)], r"inputs\[1\] has \d+ tokens and the model takes 64"),
        ([("a", "b"), "c" * 80], r"inputs\[1\] has \d+ tokens and the model takes 64"),
    ],
    ids=str,
)
async def test_what_cannot_be_classified_is_named(client: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        await client.classify(inputs, truncate="none")
    assert caught.value.indices == ((1,) if "[" in message and "list" not in message else ())


async def test_a_classifier_is_for_classify(client: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"classes is a model for classify\(\) \(classification\)"):
        await client.embed(["a"], model="classes")
    with pytest.raises(InvalidInputError, match="classes"):
        await client.rerank("a", ["a"], model="classes")
