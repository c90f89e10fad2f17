"""Batches through OpenAI's own SDK over a real Triton, by a gateway that is killed while it works on them."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from tests.batching import embeddings_of, jsonl, line
from tests.serving import Serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = "all-minilm-l6-v2"
KILLS = 3
PATIENCE_S = 150
LONGEST_LIFE_S = 1.0  # beyond the moment from which it answers


@pytest.fixture(scope="module")
def gateway(triton: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A gateway of its own, with a database, before the Triton of the other tests."""
    folder: Path = tmp_path_factory.mktemp("batches")
    settings = {"CONCH_TRITON_URL": triton.grpc_url, "CONCH_BATCH_DATABASE": str(folder / "batches.db")}
    with Serving(None, folder, **settings) as serving:
        yield serving


@pytest.fixture(scope="module")
def sdk(gateway: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def created(sdk: openai.OpenAI, content: str, **fields: Any) -> openai.types.Batch:
    file = sdk.files.create(file=("input.jsonl", content.encode()), purpose="batch")
    order: dict[str, Any] = {"endpoint": "/v1/embeddings", "completion_window": "24h", **fields}
    return sdk.batches.create(input_file_id=file.id, **order)


def over(sdk: openai.OpenAI, batch: openai.types.Batch) -> openai.types.Batch:
    until(lambda: sdk.batches.retrieve(batch.id).status in {"completed", "failed", "cancelled", "expired"}, PATIENCE_S)
    return sdk.batches.retrieve(batch.id)


def answers(sdk: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(each) for each in sdk.files.content(file_id or "").text.splitlines()]


def test_the_sdks_own_flow(sdk: openai.OpenAI) -> None:
    texts = ["How do I reverse a list?", "Wie spät ist es?", ""]
    batch = created(sdk, jsonl(embeddings_of(texts, MODEL)), metadata={"night": "ly"})
    batch = over(sdk, batch)
    plain = sdk.embeddings.create(model=MODEL, input=texts[:2], encoding_format="float")
    written, errors = answers(sdk, batch.output_file_id), answers(sdk, batch.error_file_id)

    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    assert batch.metadata == {"night": "ly"}
    assert batch.usage is not None
    assert batch.usage.total_tokens == plain.usage.total_tokens
    vectors = [each["response"]["body"]["data"][0]["embedding"] for each in written]
    np.testing.assert_allclose(vectors, [item.embedding for item in plain.data], atol=1e-6)
    assert [(each["custom_id"], each["response"]["status_code"]) for each in errors] == [("2", 400)]
    assert batch.id in [each.id for each in sdk.batches.list(limit=1)]
    assert sdk.files.delete(batch.output_file_id or "").deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.content(batch.output_file_id or "")


def test_a_reranker_ranks_in_a_batch(sdk: openai.OpenAI) -> None:
    body = {"model": f"{MODEL}-maxsim", "query": "Where is it?", "documents": ["It is late.", "It is here."]}
    batch = over(sdk, created(sdk, jsonl([line("a", body, "/v1/rerank")]), endpoint="/v1/rerank"))
    (written,) = answers(sdk, batch.output_file_id)

    assert [each["index"] for each in written["response"]["body"]["results"]] == [1, 0]


def test_what_is_wrong_is_told_by_line_and_what_expires_when_is_taken(sdk: openai.OpenAI) -> None:
    twice = jsonl([*embeddings_of("a", MODEL), *embeddings_of("b", MODEL)])
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file = sdk.files.create(file=("input.jsonl", twice.encode()), purpose="batch", expires_after=expiry)
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = over(sdk, batch)

    assert file.expires_at == file.created_at + 3600
    assert batch.errors is not None
    assert [(each.code, each.line) for each in batch.errors.data or []] == [("duplicate_custom_id", 2)]
    with pytest.raises(openai.ConflictError):
        sdk.batches.cancel(batch.id)
    with pytest.raises(openai.BadRequestError, match="there is no file"):
        sdk.batches.create(input_file_id="file-none", endpoint="/v1/embeddings", completion_window="24h")


def test_killed_at_any_moment_every_line_is_answered_once(gateway: Serving, sdk: openai.OpenAI) -> None:
    seed = random.randrange(10**6)  # noqa: S311
    moments = random.Random(seed)  # noqa: S311
    texts = [f"text {seed} of line {number}, of which there are many" for number in range(1_000)]
    batch = created(sdk, jsonl(embeddings_of(texts, MODEL)))
    for _ in range(KILLS):
        time.sleep(moments.uniform(0, LONGEST_LIFE_S))
        gateway.kill()
        gateway.launch()
        until(lambda: gateway.http.get("/health/live").is_success)
    batch = over(sdk, batch)
    written = answers(sdk, batch.output_file_id)

    assert [each["custom_id"] for each in written] == [str(number) for number in range(len(texts))], seed
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (len(texts), 0), seed
    some = range(0, len(texts), 100)
    plain = sdk.embeddings.create(model=MODEL, input=[texts[number] for number in some], encoding_format="float")
    vectors = [written[number]["response"]["body"]["data"][0]["embedding"] for number in some]
    np.testing.assert_allclose(vectors, [item.embedding for item in plain.data], atol=1e-5)
