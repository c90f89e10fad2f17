"""A server that is no gateway of conch is named as such, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_batch import Embedding, EngineError, Job
from conch_batch.engines import deployment

if TYPE_CHECKING:
    from collections.abc import Callable


def job(server: str) -> Job:
    return Job(inputs=(), output="", task=Embedding(), model="m", server=server)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Response], None]:
    """Makes all requests get one answer."""

    def answer(response: httpx.Response) -> None:
        real = httpx.Client
        transport = httpx.MockTransport(lambda _: response)

        def client(**options: Any) -> httpx.Client:
            return real(**{**options, "transport": transport})

        monkeypatch.setattr(httpx, "Client", client)

    return answer


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(200, html="<h1>Hello</h1>"), "does not answer as a gateway of conch does: '<h1>Hello</h1>'"),
        (httpx.Response(200, json=["m"]), "does not answer as a gateway of conch does"),
        (httpx.Response(200, json={"id": "m", "object": "model"}), "does not describe m as a gateway of conch does"),
        (httpx.Response(404, json={"error": {"message": "no model 'm'"}}), "404 no model 'm'"),
    ],
    ids=["a page", "a list", "another server", "no model"],
)
def test_what_is_no_gateway_is_told_so(
    response: httpx.Response, message: str, answering: Callable[[httpx.Response], None]
) -> None:
    answering(response)
    with pytest.raises(EngineError, match=message):
        deployment.describe(job("http://somewhere"))


@pytest.mark.parametrize("server", ["localhost:8080", "http://[::1", "http://a:b:c"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(EngineError, match="is no address of a gateway"):
        deployment.describe(job(server))


def test_a_server_that_is_not_there_is_not_waited_for_as_long_as_one_that_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deployment, "_FIRST_PATIENCE_S", 0.0)
    with pytest.raises(EngineError, match="does not answer: ConnectError"):
        deployment.describe(job("http://127.0.0.1:9"))
