"""Several servers behind one client: they share the work, and what befalls one of them fails no call."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from conch_client import (
    AsyncClient,
    Client,
    InvalidInputError,
    ModelNotFoundError,
    ModelReplacedError,
    OverloadedError,
    UnavailableError,
)
from conch_client._async import servers as async_servers
from conch_client._sync import servers as sync_servers
from conch_client._transport import limits
from conch_client._transport.address import Address
from conch_client._transport.catalog import ANY_TASK
from conch_client._transport.replicas import Server, listing
from conch_client.routing import Pool
from conch_client.testing import FakeModel, FakeServer, fake_tokenizer_json
from tritonclient.grpc import service_pb2

from tests.unit.client.conftest import Both
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from conch_client._transport.deadline import Deadline

OTHER = fake_tokenizer_json(("[SEP]", "[PAD]", "[CLS]", "[MORE]"))
TEXTS = [f"text number {number}" for number in range(40)]


class Babbler(FakeServer):
    """Answers every inference with a tensor of another shape than was asked for."""

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_name == "letters":
            self.received.append(request)
            response = service_pb2.ModelInferResponse(model_name="letters", raw_output_contents=[b"1234"])
            response.outputs.add(name="embedding", datatype="FP32", shape=[1, 1])
            return response
        return super().ModelInfer(request, context)


class Unloading(FakeServer):
    """Lists a model as ready that it has unloaded when it is asked to describe it, and says so as Triton does."""

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.name == "leaving":
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'leaving' has no available versions")
        return super().ModelConfig(request, context)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are looked after more often than users need it, and a slow machine is no server that hangs."""
    often = {"PROBE_EVERY_S": 0.05, "LOOKUP_EVERY_S": 0.05}
    for name, value in {**often, "PROBE_TIMEOUT_S": 60.0, "READ_TIMEOUT_S": 60.0}.items():
        monkeypatch.setattr(limits, name, value)


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer({"letters": FakeModel()})) for _ in range(3)]


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Both]]:
    """Makes a client of several servers."""
    made: list[Both] = []

    def join(*servers: FakeServer) -> Both:
        made.append(Both(request.param([server.url for server in servers])))
        return made[-1]

    yield join
    for both in made:
        await both.close()


def inferences(server: FakeServer) -> int:
    return sum(request.model_name == "letters" for request in server.received)


def state(client: Both, server: FakeServer) -> str:
    return next(replica.state for replica in client.client.replicas if replica.url == server.url)


def urls(client: Both) -> list[str]:
    return [replica.url for replica in client.client.replicas]


async def each(client: Both) -> list[Any]:
    return await asyncio.gather(*(client.embed([text]) for text in TEXTS))


async def test_they_share_the_calls(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    client = join(*servers)
    expected = await client.embed(TEXTS)
    np.testing.assert_allclose(np.concatenate(await each(client)), expected, atol=1e-6)
    assert all(map(inferences, servers))
    assert sum(replica.outcomes["answered"] for replica in client.client.replicas) >= len(TEXTS)
    assert [replica.calls for replica in client.client.replicas] == [0, 0, 0]


async def test_one_that_dies_fails_no_call_and_comes_back(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    client = join(*servers)
    expected = await client.embed(TEXTS)
    servers[0].gate.clear()
    calls = asyncio.create_task(each(client))
    await eventually(lambda: inferences(servers[0]) > 0)
    servers[0].gate.set()
    servers[0].stop()
    np.testing.assert_allclose(np.concatenate(await calls), expected, atol=1e-6)
    await eventually(lambda: state(client, servers[0]) == "out")
    servers[0].start()

    async def serves_again() -> bool:
        await client.embed(["x"])
        return state(client, servers[0]) == "serving"

    await eventually(serves_again)


async def test_one_that_unloads_a_model_while_it_is_read_stays_in_service(join: Callable[..., Both]) -> None:
    with Unloading({"letters": FakeModel(), "leaving": FakeModel()}) as server, FakeServer({}) as other:
        alone, client = join(server), join(server, other)
        assert [info.name for info in await alone.models()] == ["letters"]
        assert (await client.embed(["x"])).shape == (1, 8)
        assert state(client, server) == "serving"


@pytest.mark.parametrize("listed", [True, False], ids=["that it still lists", "that it lists no more"])
async def test_a_model_that_one_is_just_unloading_is_computed_by_another(
    servers: list[FakeServer], join: Callable[..., Both], *, listed: bool
) -> None:
    leaving, other, _ = servers
    client = join(leaving, other)
    version = await client.model("letters")
    expected = await client.embed(TEXTS, model=version)
    leaving.failures.extend([(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'letters' is not found")] * 1000)
    if not listed:
        del leaving.models["letters"]
    vectors = await asyncio.gather(*(client.embed([text], model=version) for text in TEXTS))

    np.testing.assert_allclose(np.concatenate(vectors), expected, atol=1e-6)
    assert len(leaving.failures) < 1000
    assert state(client, leaving) == "serving"


async def test_a_model_that_only_one_has_which_is_away_may_come_back(
    servers: list[FakeServer], join: Callable[..., Both]
) -> None:
    servers[0].models["own"] = FakeModel()
    client = join(*servers)
    await client.embed(["x"], model="own")
    servers[0].stop()
    await eventually(lambda: state(client, servers[0]) == "out")

    with pytest.raises(UnavailableError, match="only servers that are out of service have own; try again later"):
        await client.embed(["x"], model="own")
    with pytest.raises(ModelNotFoundError, match="no model 'nobodys'"):
        await client.embed(["x"], model="nobodys")
    servers[0].start()

    async def answered() -> bool:
        with suppress(UnavailableError):
            await client.embed(["x"], model="own")
            return True
        return False

    await eventually(answered)


async def test_calls_at_one_that_hangs_are_given_to_others(
    servers: list[FakeServer], join: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROBE_TIMEOUT_S", 0.5)
    client = join(*servers)
    expected = await client.embed(TEXTS)
    servers[0].pulse.clear()
    np.testing.assert_allclose(np.concatenate(await each(client)), expected, atol=1e-6)
    before = inferences(servers[0])
    await each(client)
    assert inferences(servers[0]) == before
    (hung,) = (replica for replica in client.client.replicas if replica.url == servers[0].url)
    assert hung.ejections["hangs"] == 1


async def test_one_that_is_not_ready_gets_no_calls(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    client = join(*servers)
    await client.embed(TEXTS)
    servers[0].ready = False
    await eventually(lambda: state(client, servers[0]) == "not-ready")
    before = inferences(servers[0])
    await each(client)
    assert inferences(servers[0]) == before


async def test_where_none_is_ready_all_get_calls(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    client = join(*servers)
    await client.models()
    for server in servers:
        server.ready = False
    await eventually(lambda: {replica.state for replica in client.client.replicas} == {"not-ready"})
    assert len(await each(client)) == len(TEXTS)


async def test_one_that_answers_nonsense_is_taken_out(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    with Babbler({"letters": FakeModel()}) as babbler:
        client = join(babbler, *servers[:2])
        np.testing.assert_allclose(np.concatenate(await each(client)), await join(servers[0]).embed(TEXTS), atol=1e-6)
        assert 3 <= inferences(babbler) < len(TEXTS)
        (taken_out,) = (replica for replica in client.client.replicas if replica.url == babbler.url)
        assert taken_out.ejections.keys() == {"failed"}


async def test_a_full_queue_is_no_fault_and_another_has_room(
    servers: list[FakeServer], join: Callable[..., Both]
) -> None:
    full = (grpc.StatusCode.UNAVAILABLE, "in ensemble 'letters', Exceeds maximum queue size")
    client = join(*servers[:2])
    await client.tokenize(["x"])
    servers[0].failures.extend([full] * 100)
    await each(client)
    assert state(client, servers[0]) == "serving"
    servers[1].failures.extend([full] * 100)
    with pytest.raises(OverloadedError):
        await client.embed(["x"])


async def test_a_wrong_request_is_refused_and_no_servers_fault(
    servers: list[FakeServer], join: Callable[..., Both]
) -> None:
    client = join(*servers)
    for server in servers:
        server.models["letters"].refused_token = 50
    for _ in range(10):
        with pytest.raises(InvalidInputError):
            await client.embed([[50]])
    assert {replica.state for replica in client.client.replicas} == {"serving"}


async def test_where_all_are_gone_the_error_says_so(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    client = join(*servers[:2])
    await client.embed(["x"])
    for server in servers[:2]:
        server.stop()
    with pytest.raises(UnavailableError):
        await client.embed(["x"])
    for server in servers[:2]:
        server.start()
    await eventually(client.is_ready)
    await client.embed(["x"])


async def test_a_call_sees_one_version(servers: list[FakeServer], join: Callable[..., Both]) -> None:
    old, new, _ = servers
    new.models["letters"] = FakeModel(tokenizer_json=OTHER)
    (expected_old, expected_new) = [await join(server).embed(TEXTS) for server in (old, new)]
    old.received.clear()
    new.received.clear()
    client = join(old, new)
    for _ in range(5):
        vectors = await client.embed(TEXTS)
        assert np.allclose(vectors, expected_old, atol=1e-6) or np.allclose(vectors, expected_new, atol=1e-6)
    for vector, *wanted in zip(await each(client), expected_old, expected_new, strict=True):
        assert any(np.allclose(vector[0], one, atol=1e-6) for one in wanted)
    assert inferences(old)
    assert inferences(new)


def test_the_version_of_a_server_that_hangs_is_not_chosen_while_others_answer() -> None:
    pool: Pool[Server[None]] = Pool()
    hanging, busy = (pool.add(Server(Address(url), lambda _: None)) for url in ("hanging:8001", "busy:8001"))
    index = service_pb2.RepositoryIndexResponse()
    hanging.server.catalog.update(1.0, index, [FakeModel().config("letters")])
    busy.server.catalog.update(1.0, index, [FakeModel(tokenizer_json=OTHER).config("letters")])
    busy.load.begin(100)
    old, new = (member.server.catalog.reading.models["letters"] for member in (hanging, busy))
    assert listing(pool.members).find("letters", ANY_TASK) == old
    hanging.server.catalog.expire()
    assert listing(pool.members).find("letters", ANY_TASK) == new
    busy.server.catalog.expire()
    assert listing(pool.members).find("letters", ANY_TASK) == old


async def test_ids_go_to_servers_with_their_tokenizer_only(
    servers: list[FakeServer], join: Callable[..., Both]
) -> None:
    old, new, _ = servers
    new.models["letters"] = FakeModel(tokenizer_json=OTHER)
    version = await join(old).model("letters")
    expected = await join(old).embed(TEXTS)
    client = join(old, new)
    ids = await client.tokenize(TEXTS, model=version)
    new.received.clear()
    np.testing.assert_allclose(await client.embed(ids, model=version), expected, atol=1e-6)
    assert not new.received
    old.models["letters"] = new.models["letters"]
    old.stop()
    await eventually(lambda: state(client, old) == "out")
    old.start()

    async def is_gone() -> bool:
        try:
            await client.embed(ids, model=version)
        except ModelReplacedError:
            return True
        return False

    await eventually(is_gone)
    assert not inferences(new)


async def test_servers_that_differ_in_instances_only_are_one_group(
    servers: list[FakeServer], join: Callable[..., Both]
) -> None:
    servers[0].models["letters"].instances = 7
    client = join(*servers)
    version = await client.model("letters")
    await asyncio.gather(*(client.embed([[5, 6]], model=version) for _ in range(40)))
    assert all(map(inferences, servers))
    assert [replica.instances["letters"] for replica in client.client.replicas] == [7, 2, 2]


@pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["sync", "async"])
async def test_the_addresses_of_a_name_are_looked_up_again(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    records = ["127.0.0.1"]

    async def found(host: str, deadline: Deadline) -> list[str]:
        return found_now(host, deadline)

    def found_now(host: str, _: Deadline) -> list[str]:
        assert host == "triton-headless"
        if not records:
            raise OSError("no such host")
        return records

    monkeypatch.setattr(async_servers, "records_of", found)
    monkeypatch.setattr(sync_servers, "records_of", found_now)
    with FakeServer() as first:
        port = first.url.rpartition(":")[2]
        with FakeServer(url=f"127.0.0.2:{port}") as second:
            client = Both(kind(f"dns:///triton-headless:{port}"))
            await client.embed(["x"])
            assert urls(client) == [first.url]
            records.append("127.0.0.2")
            await eventually(lambda: urls(client) == [first.url, second.url])
            records.clear()  # the name server is away: what is known stays
            await asyncio.sleep(0.2)
            assert urls(client) == [first.url, second.url]
            records.append("127.0.0.2")
            await eventually(lambda: urls(client) == [second.url])
            await client.embed(["x"])
            await client.close()


@pytest.mark.parametrize(
    "url", ["", [], "a:1,,b:2", "dns:///a", "dns:a:1", "dns:///a:70000", "a:1,http://b:2", "a:b", "a:0"], ids=repr
)
def test_what_is_no_address_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInputError, match="url must"):
        Client(url)
