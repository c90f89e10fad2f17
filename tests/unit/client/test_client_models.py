"""Discovery: what is served is read from the server, remembered for a while, and not believed longer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from conch_client import (
    InvalidInputError,
    ModelInfo,
    ModelNotFoundError,
    ModelReplacedError,
    ServerError,
    UnavailableError,
)
from conch_client._transport import catalog, tokenizers
from conch_client.testing import FakeModel, fake_tokenizer_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client.testing import FakeServer

OTHER_TOKENIZER = fake_tokenizer_json(("[PAD]", "[CLS]", "[SEP]", "[NEW]"))


async def test_models_describe_themselves(client: Any) -> None:
    found: list[ModelInfo] = await client.models()
    assert [(info.name, info.task, info.ready) for info in found] == [
        ("letters", "embedding", True),
        ("overlap", "late-interaction", True),
        ("pairs", "cross-encoder", True),
    ]
    assert (found[0].dimension, found[0].max_length, found[0].normalized, found[0].prompts) == (8, 64, True, {})
    assert found[1].dimension is None
    assert [info.instances for info in found] == [2, 2, 2]
    assert await client.model("letters") == found[0]


async def test_instances_are_those_of_the_encoder(client: Any, server: FakeServer) -> None:
    server.models["new"] = FakeModel(instances=32)
    assert (await client.model("new")).instances == 32


async def test_without_a_name_the_first_ready_model_of_the_task_is_taken(client: Any, server: FakeServer) -> None:
    server.models = {
        "a": FakeModel(ready=False),
        "b": FakeModel(task="cross-encoder"),
        "d": FakeModel(),
        "c": FakeModel(),
    }
    await client.embed(["x"])
    assert server.received[-1].model_name == "c"
    await client.tokenize(["x"])
    await client.rerank("x", ["y"])
    assert server.received[-1].model_name == "b"


async def test_an_unknown_model_is_refused_with_what_there_is(client: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no model 'nope'; it has: letters"):
        await client.embed(["x"], model="nope")
    with pytest.raises(ModelNotFoundError, match=r"no model 'nope'; it has: letters, overlap, pairs$"):
        await client.model("nope")


async def test_a_model_of_another_task_is_refused_with_the_right_call(client: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"overlap is a model for rerank\(\)"):
        await client.embed(["x"], model="overlap")
    with pytest.raises(InvalidInputError, match=r"letters is a model for embed\(\)"):
        await client.rerank("x", ["y"], model="letters")


async def test_the_description_of_a_model_of_another_task_is_refused_too(client: Any, server: FakeServer) -> None:
    server.models["classes"] = FakeModel(task="classification", parameters={"labels": '["relevant"]'})
    server.models["chunks"] = FakeModel(task="late-chunking")
    classes, chunks = await client.model("classes"), await client.model("chunks")
    with pytest.raises(InvalidInputError, match=r"classes is a model for classify\(\) .*; pass one for late-"):
        await client.rerank("x", ["y"], model=classes)
    with pytest.raises(InvalidInputError, match=r"chunks is a model for embed_chunks\(\) .*; pass one for embedding"):
        await client.embed(["x"], model=chunks)
    assert await client.tokenize(["x"], model=chunks)


async def test_a_model_that_appears_is_found_at_once(client: Any, server: FakeServer) -> None:
    await client.models()
    server.models["new"] = FakeModel()
    assert (await client.embed(["x"], model="new")).shape == (1, 8)


async def test_a_model_that_was_unloaded_is_listed_as_not_ready(client: Any, server: FakeServer) -> None:
    await client.models()
    server.models["letters"].ready = False
    assert await client.is_ready()
    assert [info.ready for info in await client.models()] == [False, True, True]
    assert not (await client.model("letters")).ready
    with pytest.raises(UnavailableError, match="letters is not loaded"):
        await client.embed(["x"], model="letters")
    server.models["letters"].ready = True
    assert (await client.embed(["x"], model="letters")).shape == (1, 8)


async def test_a_model_that_went_away_under_the_client_is_reported_as_missing(client: Any, server: FakeServer) -> None:
    await client.embed(["x"], model="letters")
    del server.models["letters"]
    with pytest.raises(ModelNotFoundError, match="no model 'letters'; it has: none"):
        await client.embed(["x"], model="letters")


async def test_one_model_that_cannot_be_read_does_not_hide_the_others(client: Any, server: FakeServer) -> None:
    server.models["broken"] = FakeModel(parameters={"max_length": "many"})
    server.models["future"] = FakeModel(parameters={"conch_format": "2"})
    assert [info.name for info in await client.models()] == ["letters", "overlap", "pairs"]
    with pytest.raises(ServerError, match=r"broken describes itself wrongly.*export it again"):
        await client.embed(["x"], model="broken")
    with pytest.raises(ServerError, match="repository format 2; this client reads 1"):
        await client.model("future")


async def test_a_model_that_is_read_no_more_says_why_and_is_not_called_unloaded(
    client: Any, server: FakeServer
) -> None:
    await client.models()
    server.models["letters"].parameters = {"max_length": "many"}
    assert await client.is_ready()
    with pytest.raises(ServerError, match=r"letters describes itself wrongly.*export it again"):
        await client.embed(["x"], model="letters")
    assert [info.name for info in await client.models()] == ["overlap", "pairs"]


async def test_models_share_a_tokenizer_that_is_fetched_once_and_in_parts(
    connect: Callable[..., Any], server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "FILE_PART_BYTES", 1000)
    client = connect()
    await asyncio.gather(*(client.embed([text]) for text in "abcdefgh"))
    await client.rerank("a", ["b"], model="overlap")
    asked = [request for request in server.received if request.model_name.endswith(".tokenizer")]
    assert len(asked) == -(-len(fake_tokenizer_json()) // 1000)


async def test_a_tokenizer_that_is_not_the_exported_one_is_refused(client: Any, server: FakeServer) -> None:
    server.models["letters"].parameters = {"tokenizer_sha256": "0" * 64}
    actual = hashlib.sha256(fake_tokenizer_json()).hexdigest()
    with pytest.raises(ServerError, match=re.escape(f"serves a file with SHA-256 {actual}")):
        await client.embed(["x"])


async def test_a_model_that_was_replaced_before_its_tokenizer_came_is_read_anew(
    client: Any, server: FakeServer
) -> None:
    await client.models()
    server.models["letters"] = FakeModel(tokenizer_json=OTHER_TOKENIZER, dimension=5)
    assert (await client.embed(["x"])).shape == (1, 5)


async def test_a_version_that_was_replaced_before_its_tokenizer_came_is_no_more(
    client: Any, server: FakeServer
) -> None:
    version = await client.model("letters")
    server.models["letters"] = FakeModel(tokenizer_json=OTHER_TOKENIZER)
    with pytest.raises(ModelReplacedError):
        await client.embed(["x"], model=version)


async def test_a_tokenizer_replaced_without_notice_is_used_once_the_reading_is_old(
    client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await client.tokenize(["x"])
    server.models["letters"] = FakeModel(tokenizer_json=OTHER_TOKENIZER)
    assert await client.tokenize(["x"]) == before
    monkeypatch.setattr(catalog, "TTL_S", 0.0)
    assert await client.tokenize(["x"]) != before


async def test_a_call_starts_anew_when_the_model_changed_while_the_server_was_away(
    client: Any, server: FakeServer
) -> None:
    await client.embed(["x"])
    server.models["letters"] = FakeModel(tokenizer_json=OTHER_TOKENIZER, dimension=5)
    server.failures.append((grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    vectors = await client.embed(["x", "y"])
    np.testing.assert_array_equal(vectors, await client.embed(await client.tokenize(["x", "y"])))
    assert vectors.shape == (2, 5)


async def test_a_call_starts_anew_when_the_server_takes_fewer_rows_than_it_said(
    client: Any, server: FakeServer
) -> None:
    texts = list("abcdefgh")
    expected = await client.embed(texts)
    server.models["letters"] = FakeModel(max_rows=2)
    np.testing.assert_array_equal(await client.embed(texts), expected)


async def test_a_model_that_changes_before_its_tokenizer_came_is_looked_up_again(
    client: Any, server: FakeServer
) -> None:
    await client.models()
    server.models["letters"] = FakeModel(tokenizer_json=OTHER_TOKENIZER)
    server.failures.append((grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    ids = await client.tokenize(["x"])
    assert ids == [[1, *(token + 1 for token in (await client.tokenize(["x"], model="overlap"))[0][1:-1]), 2]]
