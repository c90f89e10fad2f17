"""What gateways share through Redis, and that they answer without it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_gateway import GatewaySettings, create_app
from conch_gateway.auth.keys import create_key
from conch_gateway.errors import GatewayError, SettingError
from conch_gateway.shared import store
from conch_gateway.shared.gateways import Shared
from pydantic import SecretStr

from tests.redis_server import PASSWORD, RedisServer
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn

URL = "/v1/embeddings"
SECRET_TEXT = "a text that nobody else may read"
Pair = Callable[..., Any]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is there answers in time, however busy the machine is."""
    monkeypatch.setattr(store, "PATIENCE_S", 30.0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(running: RedisServer) -> RedisServer:
    running.client.flushall()
    return running


@pytest.fixture
def pair(http_with: Serve, redis: RedisServer) -> Pair:
    """Two gateways that share a Redis."""

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
        settings = {"redis_url": redis.url, **settings}
        async with http_with(**settings) as one, http_with(**settings) as other:
            yield one, other

    return serving


async def status(http: httpx.AsyncClient, secret: str, text: str = "abcd") -> int:
    answer = await http.post(URL, json={"input": text}, headers={"authorization": f"Bearer {secret}"})
    return answer.status_code


async def embedded(http: httpx.AsyncClient, *texts: str, **fields: Any) -> list[list[float]]:
    answer = await http.post(URL, json={"input": list(texts), **fields})
    assert answer.status_code == 200, answer.text
    return [item["embedding"] for item in answer.json()["data"]]


def computed(client: StandIn) -> int:
    return sum(len(texts) for texts in client.embedded)


async def up(http: httpx.AsyncClient, use: str, secret: str = "") -> bool:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return f'conch_gateway_redis_up{{use="{use}"}} 1.0' in (await http.get("/metrics", headers=headers)).text


async def test_requests_of_a_key_count_at_all_gateways(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    alice, bob = create_key(file, "alice", requests_per_minute=2), create_key(file, "bob", requests_per_minute=2)
    async with pair(api_keys_file=file) as (one, other):
        assert [await status(http, alice) for http in (one, other, one, other)] == [200, 200, 429, 429]
        assert await status(other, bob) == 200
        refused = await one.post(URL, json={"input": "a"}, headers={"authorization": f"Bearer {alice}"})

    assert 0 < int(refused.headers["retry-after-ms"]) <= 30_000


async def test_tokens_of_a_key_count_at_all_gateways(pair: Pair, redis: RedisServer, tmp_path: Path) -> None:
    alice = create_key(tmp_path / "keys.json", "alice", tokens_per_minute=10)
    async with pair(api_keys_file=tmp_path / "keys.json") as (one, other):
        assert await status(one, alice, "abcdefgh") == 200  # ten tokens
        await eventually(lambda: redis.client.exists("conch:quota:alice:tokens:10"))
        assert await status(other, alice) == 429


async def test_a_bucket_is_gone_when_it_is_full_again(pair: Pair, redis: RedisServer, tmp_path: Path) -> None:
    alice = create_key(tmp_path / "keys.json", "alice", requests_per_minute=6)
    began = time.monotonic()
    async with pair(api_keys_file=tmp_path / "keys.json") as (one, _):
        await status(one, alice)
        left_ms = redis.client.pttl("conch:quota:alice:requests:6")

    assert left_ms + 1_000 * (time.monotonic() - began) > 9_000
    assert left_ms <= 10_000


async def test_gateways_with_another_prefix_share_nothing(
    http_with: Serve, redis: RedisServer, client: StandIn, tmp_path: Path
) -> None:
    alice = create_key(tmp_path / "keys.json", "alice", requests_per_minute=1)
    settings = {"redis_url": redis.url, "api_keys_file": tmp_path / "keys.json"}
    async with http_with(**settings) as one, http_with(**settings, redis_prefix="staging") as other:
        assert [await status(http, alice) for http in (one, other, one)] == [200, 200, 429]


async def test_what_one_gateway_has_computed_the_other_finds(pair: Pair, redis: RedisServer, client: StandIn) -> None:
    async with pair(cache_mb=1) as (one, other):
        first = await embedded(one, "ab", "cd")
        await eventually(lambda: redis.client.dbsize() == 2)
        second = await embedded(other, "cd", "new", "ab")
        exposition = (await other.get("/metrics")).text

    assert computed(client) == 3
    assert [second[2], second[0]] == first
    assert 'conch_gateway_cache_texts_total{model="letters",result="hit"} 2.0' in exposition


async def test_redis_holds_no_text_and_forgets(pair: Pair, redis: RedisServer) -> None:
    began = time.monotonic()
    async with pair(cache_mb=1, redis_ttl_s=1000) as (one, _):
        (vector,) = await embedded(one, SECRET_TEXT)
        await eventually(lambda: redis.client.dbsize() == 1)

    (name,) = redis.client.keys()
    value = redis.client.get(name)
    assert SECRET_TEXT.encode() not in name + value
    assert name.startswith(b"conch:vector:")
    assert np.frombuffer(value, "<f4", offset=8).tolist() == pytest.approx(vector)
    left_s = redis.client.ttl(name)
    assert left_s + time.monotonic() - began > 990
    assert left_s <= 1000


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"weights_sha256": "2" * 64}, id="weights"),
        pytest.param({"tokenizer_sha256": "2" * 64}, id="words"),
    ],
)
async def test_vectors_of_another_version_of_the_model_are_not_found(
    pair: Pair, redis: RedisServer, client: StandIn, changes: dict[str, str]
) -> None:
    async with pair(cache_mb=1) as (one, other):
        await embedded(one, "ab")
        await eventually(lambda: redis.client.dbsize() == 1)
        client.served[0] = replace(client.served[0], **changes)  # type: ignore[arg-type]
        await embedded(other, "ab")

    assert computed(client) == 2


async def test_vectors_of_upstreams_are_not_shared(http_of: Serve, redis: RedisServer) -> None:
    async with http_of(redis_url=redis.url, cache_mb=1) as http:
        await embedded(http, "ab", model="far")
        assert await up(http, "caching vectors")

    assert redis.client.dbsize() == 0


@pytest.mark.parametrize("value", [b"", b"not a vector", b"\x01\0\0\0\x08\0\0\0\0"], ids=["empty", "text", "cut off"])
async def test_what_is_no_vector_is_computed_anew(
    pair: Pair, redis: RedisServer, client: StandIn, value: bytes
) -> None:
    async with pair(cache_mb=1) as (one, other):
        first = await embedded(one, "ab")
        await eventually(lambda: redis.client.dbsize() == 1)
        redis.client.set(redis.client.keys()[0], value)

        assert await embedded(other, "ab") == first
    assert computed(client) == 2


async def full(server: RedisServer) -> None:
    server.client.config_set("maxmemory", 1)


async def hanging(server: RedisServer) -> None:
    server.signal(signal.SIGSTOP)


async def stopped(server: RedisServer) -> None:
    server.stop()


async def with_another_password(server: RedisServer) -> None:
    server.client.config_set("requirepass", "another")
    server.client.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize("fault", [full, hanging, stopped, with_another_password])
async def test_without_redis_each_gateway_counts_for_itself(
    http_with: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[RedisServer], Any],
) -> None:
    alice = create_key(tmp_path / "keys.json", "alice", requests_per_minute=2)
    settings = {"api_keys_file": tmp_path / "keys.json", "cache_mb": 1, "api_keys": "root:root"}
    with RedisServer(tmp_path) as server:
        settings["redis_url"] = server.url
        async with http_with(**settings) as one, http_with(**settings) as other:
            assert await status(one, alice) == 200
            await fault(server)
            monkeypatch.setattr(store, "PATIENCE_S", 0.1)
            began = time.monotonic()
            seen = [
                await status(http, alice, text) for text, http in zip("abcd", (one, one, other, other), strict=True)
            ]
            took_s = time.monotonic() - began

            # What this gateway let through before counts, too.
            assert seen == [200, 429, 200, 200]
            assert not await up(one, "quotas", "root")
            assert not await up(other, "quotas", "root")
            server.signal(signal.SIGCONT)

    warned = [record for record in caplog.records if "quotas" in record.message and record.levelno == logging.WARNING]
    assert [record.message.partition("; until")[2] for record in warned] == [
        " it can be, each gateway counts for itself what keys use"
    ] * 2
    assert PASSWORD not in caplog.text
    assert took_s < 30  # one that hangs would be waited for without end


async def test_redis_is_used_again_when_it_is_back(
    http_with: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "PAUSE_S", 0.02)
    caplog.set_level(logging.INFO, "conch_gateway")
    alice = create_key(tmp_path / "keys.json", "alice", requests_per_minute=10_000)
    server = RedisServer(tmp_path)  # it is away when the gateway starts, too
    settings = {"redis_url": server.url, "api_keys_file": tmp_path / "keys.json", "api_keys": "root:root"}
    async with http_with(**settings) as http:
        for _ in range(2):

            async def answers(expected: bool) -> bool:
                assert await status(http, alice) == 200
                return await up(http, "quotas", "root") is expected

            await eventually(lambda: answers(False))
            with server:
                await eventually(lambda: answers(True))

    assert sum("answers again (quotas)" in record.message for record in caplog.records) == 2


async def test_another_server_at_its_address_fails_no_request(http_with: Serve, tmp_path: Path) -> None:
    alice = create_key(tmp_path / "keys.json", "alice", requests_per_minute=10)
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.read(1)
        asked += 1
        writer.write(b":not a number\r\n")  # the client's parser raises ValueError
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        settings = {"redis_url": f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "cache_mb": 1}
        async with http_with(**settings, api_keys_file=tmp_path / "keys.json", api_keys="root:root") as http:
            assert await status(http, alice) == 200
            assert not await up(http, "quotas", "root")
    assert asked


async def test_no_connection_is_left_of_a_gateway_that_fails(redis: RedisServer) -> None:
    before = len(redis.client.client_list())
    shared = Shared(SecretStr(redis.url), GatewaySettings())

    async def serve() -> None:
        async with shared.connected():
            assert len(redis.client.client_list()) > before
            raise GatewayError("it no longer serves")

    with pytest.raises(GatewayError, match="no longer serves"):
        await serve()
    await eventually(lambda: len(redis.client.client_list()) == before)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"redis://:{PASSWORD}/more@localhost:6379", id="a slash in the password"),
        pytest.param(f"http://:{PASSWORD}@localhost", id="another scheme"),
        pytest.param(f"redis://:{PASSWORD}@localhost:6379/0?colour=red", id="an unknown option"),
        pytest.param("localhost:6379", id="no scheme"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(client: StandIn, url: str) -> None:
    with pytest.raises(SettingError, match="CONCH_REDIS_URL") as refused:
        create_app(GatewaySettings(redis_url=url), client)

    assert PASSWORD not in str(refused.value)
    assert refused.value.__suppress_context__


def test_what_redis_needs_is_named_where_it_is_not_installed(client: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "conch_gateway.shared.gateways", None)

    with pytest.raises(SettingError, match=r"pip install 'conch\[redis\]'"):
        create_app(GatewaySettings(redis_url="redis://localhost"), client)
