"""Triton killed under the gateway's load: errors that say so, service back by itself, and never a wrong vector."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from tests.serving import Serving
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

EMBEDDINGS = "/v1/embeddings"
TEXTS = [" ".join(["a cat sat on the mat"] * count) for count in (1, 2, 3, 5, 8, 13, 21, 34)]


class Load:
    """Workers that ask the gateway for one text each, again and again, and check every answer."""

    def __init__(self, http: httpx.AsyncClient, expected: NDArray[np.float32]) -> None:
        self._http = http
        self._expected = expected
        self.answers: list[tuple[float, httpx.Response]] = []
        self.largest_difference = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._work(number, stop) for number in range(len(TEXTS))))

    async def _work(self, number: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            response = await self._http.post(EMBEDDINGS, json=body(number))
            self.answers.append((time.monotonic(), response))
            if response.status_code == 200:
                difference = float(np.abs(vector_of(response) - self._expected[number]).max())
                self.largest_difference = max(self.largest_difference, difference)
            else:
                await asyncio.sleep(0.02)  # or the load would take the processor from what is starting

    def count(self, status: int, since: float = 0.0) -> int:
        return sum(response.status_code == status and moment > since for moment, response in self.answers)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, [response.text for _, response in self.answers[-3:]]
            await asyncio.sleep(0.005)


def body(number: int) -> dict[str, Any]:
    return {"input": TEXTS[number], "encoding_format": "base64"}


def vector_of(response: httpx.Response) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(response.json()["data"][0]["embedding"]), "<f4")


async def test_a_killed_triton_costs_503s_for_less_than_five_seconds_and_no_wrong_vector(
    small_repository: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    serving = await asyncio.to_thread(Serving(small_repository, tmp_path).start)
    within_s = max(
        5, time.monotonic() - began
    )  # a machine that is busy with other things takes longer to start anything
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        alone = [vector_of(await http.post(EMBEDDINGS, json=body(number))) for number in range(len(TEXTS))]
        load, stop = Load(http, np.array(alone)), asyncio.Event()
        running = asyncio.create_task(load.run(stop))
        await load.until(lambda: load.count(200) >= 3 * len(TEXTS), timeout_s=PATIENCE_S)

        killed = time.monotonic()
        serving.triton.kill()
        await load.until(lambda: load.count(503) > 0, timeout_s=within_s)
        await load.until(lambda: "Triton serves again" in serving.said, timeout_s=within_s)
        back = time.monotonic()
        await load.until(lambda: load.count(200, since=back) >= 3 * len(TEXTS), timeout_s=PATIENCE_S)
        stop.set()
        await running
    assert await asyncio.to_thread(serving.stop) == 0

    first_again = min(moment for moment, response in load.answers if response.status_code == 200 and moment > back)
    assert first_again - killed < within_s
    assert {response.status_code for _, response in load.answers} == {200, 503}
    for _, response in load.answers:
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]["code"] == "unavailable"
    assert load.largest_difference < 1e-5


NUL_AND_SURROGATES = [
    pytest.param(b'{"input": ["fine", "\\u0000"]}', 200, id="a NUL byte"),
    pytest.param(b'{"input": ["fine", "\\udc00 x"]}', 400, id="a lone low surrogate among texts"),
    pytest.param(b'{"input": "\\ud83d"}', 400, id="half an emoji"),
    pytest.param(b'{"input": "\xff\xfe"}', 400, id="bytes that are not UTF-8"),
    pytest.param(b'{"input": [[]]}', 400, id="no token ids"),
    pytest.param(b'{"input": [[101, 102], []]}', 400, id="no token ids among some"),
    pytest.param(b'{"input": [101, 9223372036854775808]}', 400, id="a token id beyond 64 bits"),
    pytest.param(b'{"input": [1.5]}', 422, id="half a token id"),
    pytest.param(b'{"input": "a", "dimensions": 0}', 400, id="no dimensions"),
    pytest.param(b"[]", 422, id="a list for a body"),
    pytest.param(b"", 400, id="no body"),
]


@pytest.mark.parametrize(("content", "status"), NUL_AND_SURROGATES)
async def test_a_malformed_text_or_body_has_its_status(gateway_url: str, content: bytes, status: int) -> None:
    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as http:
        alone = vector_of(await http.post(EMBEDDINGS, json=body(0)))
        refused, beside = await asyncio.gather(
            http.post(EMBEDDINGS, content=content, headers={"content-type": "application/json"}),
            http.post(EMBEDDINGS, json=body(0)),
        )
    assert refused.status_code == status, refused.text
    np.testing.assert_allclose(vector_of(beside), alone, atol=1e-5)


@pytest.mark.parametrize("query", ["", "\0", " "], ids=ascii)
async def test_odd_queries_rank_or_are_refused_as_input(gateway_url: str, query: str) -> None:
    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as http:
        response = await http.post("/v1/rerank", json={"query": query, "documents": ["a", "\0", "b"]})
    assert response.status_code == (200 if query else 400)
    if query:
        assert np.isfinite([result["relevance_score"] for result in response.json()["results"]]).all()
