"""Keys, limits and the cache of a gateway over a real Triton, as operators set them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
from conch_gateway.auth.keys import create_key, revoke_key

from tests.serving import Serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MODEL, OTHER = "all-minilm-l6-v2", "all-minilm-l6-v2-int8"
URL = "/v1/embeddings"
TEXTS = ["a cat sat on the mat", "größer, 日本語 and 🐚"]
LONG = "to be or not to be? " * 200


class Gateway(httpx.AsyncClient):
    """A client of a `conch serve` of its own; `serving` is that."""

    serving: Serving


Started = Callable[..., contextlib.AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def gateway(triton: Serving, tmp_path: Path) -> Started:
    """Serves with these settings, over the Triton of all tests."""

    @contextlib.asynccontextmanager
    async def started(**settings: object) -> AsyncIterator[Gateway]:
        environment = {f"CONCH_{name.upper()}": str(value) for name, value in settings.items()}
        serving = Serving(None, tmp_path, CONCH_TRITON_URL=triton.grpc_url, **environment)
        await asyncio.to_thread(serving.start)
        async with Gateway(base_url=serving.url, timeout=60) as http:
            http.serving = serving
            yield http
        assert await asyncio.to_thread(serving.stop) == 0

    return started


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def cached_texts(metrics: str, result: str) -> float:
    """How many texts of the model the cache had, or had not."""
    found = re.search(
        rf'^conch_gateway_cache_texts_total{{model="{MODEL}",result="{result}"}} (\S+)', metrics, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


async def computed_rows(triton: Serving, model: str) -> int:
    """How many rows Triton has computed with the model's encoder."""
    async with triton_grpc.InferenceServerClient(triton.grpc_url) as client:
        statistics = await client.get_inference_statistics(f"{model}.encoder", as_json=True)
    return int(statistics["model_stats"][0].get("inference_count", 0))


async def test_who_has_a_key_is_served_until_it_is_revoked(gateway: Started, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    alice, bob = create_key(file, "alice"), create_key(file, "bob", models=[OTHER])
    asked = {"model": MODEL, "input": TEXTS}
    async with gateway(api_keys_file=file, access_log=True) as http:
        stranger = await http.post(URL, json=asked)
        assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await http.get("/health/ready")).status_code == 200
        assert (await http.post(URL, json=asked, headers=bearer(alice))).status_code == 200
        assert (await http.post(URL, json={**asked, "model": OTHER}, headers=bearer(bob))).status_code == 200
        assert (await http.post(URL, json=asked, headers=bearer(bob))).status_code in {403, 404}

        revoke_key(file, "alice")

        async def shut() -> bool:
            return (await http.post(URL, json=asked, headers=bearer(alice))).status_code == 401

        await eventually(shut)  # it looks at the file once a second
        said = http.serving.said + http.serving.printed
    assert '"status": 200' in said or '"status":200' in said
    assert alice not in said
    assert bob not in said
    assert alice not in file.read_text()


async def test_a_key_has_as_many_requests_and_tokens_a_minute_as_it_was_given(gateway: Started, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    few = create_key(file, "few", requests_per_minute=2)
    small = create_key(file, "small", tokens_per_minute=20)
    async with gateway(api_keys_file=file) as http:
        statuses = [(await http.post(URL, json={"input": "a"}, headers=bearer(few))).status_code for _ in range(3)]
        first, second = [await http.post(URL, json={"input": LONG}, headers=bearer(small)) for _ in range(2)]
    assert statuses == [200, 200, 429]
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["code"] == "quota_exceeded"
    assert int(second.headers["retry-after-ms"]) > 1_000


async def test_beyond_its_limits_a_gateway_refuses_at_once_and_serves_the_others(
    gateway: Started,
) -> None:
    limits = {"max_in_flight_requests": 2, "max_inputs": 64, "max_body_bytes": 100_000, "truncate": "none"}
    answers: list[httpx.Response] = []
    async with gateway(**limits) as http:

        async def some_are_refused() -> bool:
            requests = (http.post(URL, json={"input": [f"text {n}"] * 40}) for n in range(12))
            answers.extend(await asyncio.gather(*requests))
            return any(answer.status_code == 429 for answer in answers)

        await eventually(some_are_refused)
        many, large, cut = [await http.post(URL, json={"input": given}) for given in (["a"] * 65, "a" * 100_001, LONG)]
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(served) >= 2
    assert len(served) + len(refused) == len(answers)
    assert all(int(answer.headers["retry-after-ms"]) > 0 for answer in refused)
    assert [many.status_code, large.status_code, cut.status_code] == [400, 413, 400]


async def test_what_is_cached_is_not_computed_again(gateway: Started, triton: Serving) -> None:
    asked = {"model": MODEL, "input": [*TEXTS, TEXTS[0]]}
    async with gateway(cache_mb=1) as http:
        missed = cached_texts((await http.get("/metrics")).text, "miss")  # the text with which it began
        first = (await http.post(URL, json=asked)).json()
        before = await computed_rows(triton, MODEL)
        second = (await http.post(URL, json=asked)).json()
        assert await computed_rows(triton, MODEL) == before
        other = (await http.post(URL, json={**asked, "model": OTHER})).json()
        metrics = (await http.get("/metrics")).text
    assert second == first
    assert cached_texts(metrics, "hit") == 3
    assert cached_texts(metrics, "miss") - missed == 3
    vectors = [np.array([item["embedding"] for item in answer["data"]]) for answer in (first, other)]
    assert 1e-4 < np.abs(vectors[0] - vectors[1]).max() < 0.1
