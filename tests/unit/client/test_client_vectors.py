"""What ``embed_tokens`` and ``embed_sparse`` promise, over a small real server and with both kinds of client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError, ServerError
from conch_client.testing import FakeModel

if TYPE_CHECKING:
    from conch_client.testing import FakeServer

TEXTS = ["a", "bcd" * 9, "", "efgh", "ü", "i" * 200, "jk"] * 3
CALLS = {"embed_tokens": "tokens", "embed_sparse": "words"}
every_call = pytest.mark.parametrize("call", CALLS)


@pytest.fixture(autouse=True)
def _models(server: FakeServer) -> None:
    server.models["tokens"] = FakeModel(task="multi-vector", parameters={"normalize": "false", "base": "letters"})
    server.models["words"] = FakeModel(task="sparse")


async def test_every_token_has_its_vector_in_the_order_of_the_texts(client: Any) -> None:
    vectors = await client.embed_tokens(TEXTS)
    assert [len(row) for row in vectors] == [len(ids) for ids in await client.tokenize(TEXTS)]
    for text, row in zip(TEXTS, vectors, strict=True):
        assert row.dtype == np.float32
        assert row.flags.writeable
        np.testing.assert_array_equal(row, (await client.embed_tokens([text]))[0])


async def test_token_vectors_have_length_one_unless_they_are_wanted_as_they_come(client: Any) -> None:
    (unit,), (raw,) = await client.embed_tokens(["abc"]), await client.embed_tokens(["abc"], normalize=False)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-6)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).max() > 0.1


async def test_a_first_token_that_is_not_compared_has_no_vector(client: Any, server: FakeServer) -> None:
    server.models["skipping"] = FakeModel(
        task="multi-vector", parameters={"normalize": "false", "base": "letters", "skips_first": "true"}
    )
    every = await client.embed_tokens(TEXTS, model="tokens")
    for row, found in zip(every, await client.embed_tokens(TEXTS, model="skipping"), strict=True):
        np.testing.assert_array_equal(found, row[1:])
    (alone,) = await client.embed_tokens([[5]], model="skipping")
    assert len(alone) == 1, "a text of one token keeps it"


async def test_a_sparse_vector_holds_what_is_not_zero_in_ascending_order(client: Any) -> None:
    vectors = await client.embed_sparse(TEXTS)
    for ids, vector in zip(await client.tokenize(TEXTS), vectors, strict=True):
        found, counts = np.unique(ids, return_counts=True)
        np.testing.assert_array_equal(vector.indices, found)
        np.testing.assert_array_equal(vector.values, counts)
        assert (vector.indices.dtype, vector.values.dtype) == (np.int64, np.float32)


@every_call
async def test_long_lists_are_split_to_what_the_model_takes(client: Any, server: FakeServer, call: str) -> None:
    await getattr(client, call)(TEXTS)
    sent = [request.inputs[0].shape[0] for request in server.received if request.model_name == CALLS[call]]
    assert sum(sent) == len(TEXTS)
    assert max(sent) <= server.models[CALLS[call]].max_rows


@every_call
async def test_prompts_go_before_the_text(client: Any, server: FakeServer, call: str) -> None:
    server.models[CALLS[call]].parameters |= {"prompts": '{"query": "q: "}'}
    prompted, written = await getattr(client, call)(["x"], prompt_name="query"), await getattr(client, call)(["q: x"])
    np.testing.assert_array_equal(prompted[0], written[0])


@every_call
async def test_ids_that_no_token_has_are_named(client: Any, call: str) -> None:
    with pytest.raises(InvalidInputError, match=r"refused text\(s\) \[1, 5\]: a token id is outside"):
        await getattr(client, call)([[1, 5, 2], [1, 99_999, 2], [1], [1], [1], [2**31 - 1]])


@pytest.mark.parametrize(
    ("call", "model", "message"),
    [
        ("embed", "tokens", r"tokens is a model for embed_tokens\(\) \(multi-vector\); it has: letters"),
        ("embed", "words", r"words is a model for embed_sparse\(\) \(sparse\); it has: letters"),
        ("embed_tokens", "letters", r"letters is a model for embed\(\) \(embedding\); it has: tokens"),
        ("embed_sparse", "tokens", r"it has: words"),
    ],
)
async def test_a_model_of_another_kind_is_told_by_the_call_it_is_for(
    client: Any, call: str, model: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await getattr(client, call)(["a"], model=model)


@every_call
@pytest.mark.parametrize("shape", [(1, 1), ()], ids=["one row", "a number"])
async def test_an_answer_of_another_shape_is_the_servers_fault(
    client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch, call: str, shape: tuple[int, ...]
) -> None:
    model = server.models[CALLS[call]]
    answer = {name: np.zeros(shape, np.float32) for name in model.outputs}
    monkeypatch.setattr(model, "compute", lambda _: answer)
    with pytest.raises(ServerError, match=r"instead of|\[(1, 1)?\] with 4 bytes for 2 rows"):
        await getattr(client, call)(["abc", "d"])


async def test_a_derived_model_names_its_base(client: Any) -> None:
    told = {info.name: info for info in await client.models()}
    assert told["tokens"].base == "letters"
    assert told["words"].base is None
    assert (told["tokens"].task, told["tokens"].dimension, told["tokens"].normalized) == ("multi-vector", 8, False)


@pytest.mark.parametrize("call", ["embed", "embed_tokens", "embed_sparse", "rerank"])
async def test_the_server_is_told_the_id_of_every_request_that_a_call_sends(
    client: Any, server: FakeServer, call: str
) -> None:
    server.models["ranks"] = FakeModel(task="cross-encoder")
    arguments = ("q", TEXTS) if call == "rerank" else (TEXTS,)
    options = {"model": "ranks"} if call == "rerank" else {}
    await getattr(client, call)(*arguments, **options)
    server.received.clear()

    await getattr(client, call)(*arguments, **options, request_id="a-request")

    assert len(server.received) > 1
    assert {request.id for request in server.received} == {"a-request"}
