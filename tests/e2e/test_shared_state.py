"""Two gateways, processes of their own, before one Triton: they share what keys have used, and what is cached."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_gateway.auth.keys import create_key

from tests.redis_server import RedisServer
from tests.serving import Serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "/v1/embeddings"
TEXT = "what one gateway has computed, the other finds"
FIVE = 5


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(triton: Serving, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """HTTP clients of both gateways, and keys with a quota."""
    folder: Path = tmp_path_factory.mktemp("gateways")
    keys = [create_key(folder / "keys.json", f"caller-{number}", requests_per_minute=FIVE) for number in range(9)]
    settings = {
        "CONCH_TRITON_URL": triton.grpc_url,
        "CONCH_REDIS_URL": redis.url,
        "CONCH_CACHE_MB": "8",
        "CONCH_API_KEYS_FILE": str(folder / "keys.json"),
        "CONCH_API_KEYS": "root:key-of-root-in-tests",
    }
    with ExitStack() as stack:
        gateways = [Serving(None, folder / name, **settings).launch() for name in ("one", "other")]
        for gateway in gateways:
            stack.push(gateway)
        for gateway in gateways:
            until(gateway.ready)
        yield [stack.enter_context(httpx.Client(base_url=gateway.url, timeout=60)) for gateway in gateways], keys


def embed(http: httpx.Client, key: str = "key-of-root-in-tests", text: str = TEXT) -> httpx.Response:
    return http.post(URL, json={"input": text}, headers={"authorization": f"Bearer {key}"})


def test_a_text_is_computed_by_one_of_them(pair: Any, redis: RedisServer) -> None:
    (one, other), _ = pair
    numbers = count()

    def shared() -> bool:
        text, known = f"{TEXT} {next(numbers)}", len(redis.client.keys("conch:vector:*"))
        first = embed(one, text=text)
        with suppress(AssertionError):
            until(lambda: len(redis.client.keys("conch:vector:*")) > known, timeout_s=5)
        second = embed(other, text=text)
        assert "inference" in first.headers["server-timing"]
        assert first.json()["data"] == second.json()["data"]
        return "inference" not in second.headers["server-timing"]

    until(shared)  # the next text, where this machine was too busy for Redis to answer in time


def test_a_key_has_its_quota_once(pair: Any) -> None:
    both, keys = pair

    def held() -> bool:
        key = keys.pop()
        answers = [embed(http, key).status_code for _ in range(FIVE) for http in both]
        # A bucket refills meanwhile, however little.
        return FIVE <= answers.count(200) < 2 * FIVE and answers[-1] == 429

    until(held)  # the next key, where this machine was too busy for Redis to answer in time
