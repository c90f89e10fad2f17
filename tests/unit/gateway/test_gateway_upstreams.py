"""Models of another server, which may be slow, wrong or gone: what its faults become for who asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.unit.gateway.other_server import VECTOR, answer_with, packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve
    from tests.unit.gateway.other_server import OtherServer

KEY = "sk-of-the-other-server"


@pytest.fixture
async def http(other: OtherServer, http_with: Serve, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "models.toml").write_text(f"""
        [far]
        url = "{other.url}"
        model = "organisation/model-of-4096"
        api_key_file = "{tmp_path / "key"}"
        dimension = 3
        timeout_s = 2
        retries = 1

        [further]
        model = "far"
        """)
    async with http_with(models_file=tmp_path / "models.toml") as connection:
        yield connection


async def ask(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/embeddings", json={"model": "far", "input": ["one", "two"], **fields})


async def test_its_vectors_are_handed_on_with_its_count_of_tokens(http: httpx.AsyncClient) -> None:
    answer = (await ask(http)).json()
    assert answer["model"] == "far"
    assert [item["index"] for item in answer["data"]] == [0, 1]
    np.testing.assert_allclose(answer["data"][1]["embedding"], VECTOR, rtol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


async def test_lists_of_numbers_are_understood_as_well(http: httpx.AsyncClient, other: OtherServer) -> None:
    other.script = [(200, answer_with([VECTOR, VECTOR]), {})]
    np.testing.assert_allclose((await ask(http)).json()["data"][0]["embedding"], VECTOR, rtol=1e-6)


async def test_it_is_asked_by_its_own_name_with_its_own_key(http: httpx.AsyncClient, other: OtherServer) -> None:
    await ask(http, model="further", dimensions=3, input_type="query")
    assert other.requests[0]["model"] == "organisation/model-of-4096"
    assert other.requests[0]["input"] == ["one", "two"]
    assert other.requests[0]["dimensions"] == 3
    assert other.requests[0]["input_type"] == "query"
    assert f"authorization: bearer {KEY}" in other.heads[0]


async def test_it_is_listed_under_every_name(http: httpx.AsyncClient) -> None:
    listed = {model["id"]: model for model in (await http.get("/v1/models")).json()["data"]}
    assert {"far", "further", "letters", "overlap"} <= set(listed)
    assert listed["further"]["dimension"] == 3
    assert (await http.get("/v1/models/far")).json()["task"] == "embedding"


async def test_it_is_no_reason_to_be_unready(http: httpx.AsyncClient, other: OtherServer) -> None:
    other.script = ["reset"]
    assert (await http.get("/health/ready")).status_code == 200
    assert other.requests == []


@pytest.mark.parametrize("fault", ["reset", (503, {}, {}), (500, b"oops", {})], ids=["reset", "503", "500"])
async def test_what_passes_is_tried_again(http: httpx.AsyncClient, other: OtherServer, fault: Any) -> None:
    other.script = [fault]
    assert (await ask(http)).status_code == 200
    assert len(other.requests) == 2


FAULTS: dict[str, tuple[list[Any], int, str]] = {
    "resets every connection": (["reset"] * 2, 502, "cannot be reached"),
    "fails every time": ([(500, {}, {})] * 2, 502, "answered 500"),
    "refuses the key": ([(401, {"error": {"message": f"wrong key {KEY}"}}, {})], 502, "refused the gateway's key"),
    "lacks the model": ([(404, {}, {})], 502, "no such model"),
    "redirects": ([(302, {}, {"location": "http://127.0.0.1:1"})], 502, "answered 302"),
    "refuses the request": ([(400, {"error": {"message": "too many tokens"}}, {})], 400, "too many tokens"),
    "answers no JSON": ([(200, b"<html>", {})], 502, "cannot be read"),
    "answers other JSON": ([(200, {"data": [1]}, {})], 502, "cannot be read"),
    "answers nothing": ([(200, {"data": []}, {})], 502, "0 vectors for 2 texts"),
    "leaves one out": ([(200, answer_with([VECTOR]), {})], 502, "1 vectors for 2 texts"),
    "answers another length": ([(200, answer_with([[1.0, 0.0]] * 2), {})], 502, "2 numbers instead of 3"),
    "answers unequal lengths": ([(200, answer_with([VECTOR, [1.0]]), {})], 502, "not of one length"),
    "answers bad base64": ([(200, answer_with(["%%%%"] * 2), {})], 502, "cannot be read"),
    "answers NaN": ([(200, answer_with([packed([np.nan] * 3)] * 2), {})], 502, "not finite"),
}


@pytest.mark.parametrize(("script", "status", "told"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_server_that_does_this_gets_an_error_that_says_so(
    http: httpx.AsyncClient, other: OtherServer, script: list[Any], status: int, told: str
) -> None:
    other.script = list(script)
    answer = await ask(http)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]
    assert KEY not in answer.text


@pytest.mark.parametrize(("script", "status", "told"), FAULTS.values(), ids=FAULTS.keys())
async def test_the_error_does_not_name_the_model_behind_an_alias(
    http: httpx.AsyncClient, other: OtherServer, script: list[Any], status: int, told: str
) -> None:
    other.script = list(script)
    answer = await ask(http, model="further")
    assert (answer.status_code, told in answer.text, "far" in answer.text) == (status, True, False)


async def test_a_busy_server_passes_on_when_to_come_again(http: httpx.AsyncClient, other: OtherServer) -> None:
    other.script = [(429, {}, {"retry-after": "17"})]
    answer = await ask(http)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")
    assert len(other.requests) == 1


async def test_a_slow_server_is_waited_for_no_longer_than_its_table_says(
    http: httpx.AsyncClient, other: OtherServer
) -> None:
    other.permits = asyncio.Semaphore(0)
    answer = await ask(http)
    assert answer.status_code == 504
    assert len(other.requests) == 1


async def test_more_dimensions_than_it_has_are_refused_here(http: httpx.AsyncClient, other: OtherServer) -> None:
    answer = await ask(http, dimensions=4, model="further")
    assert (answer.status_code, "'further' has 3" in answer.text) == (400, True)
    assert other.requests == []


async def test_what_it_computed_is_counted_under_its_public_name(http: httpx.AsyncClient) -> None:
    await ask(http)
    assert 'conch_gateway_tokens_total{model="far"} 7.0' in (await http.get("/metrics")).text
