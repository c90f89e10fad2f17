"""What a gateway answers, refuses, or is not."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import trustme
from conch_batch import Embedding, EngineError, Job
from conch_batch.engines import deployment
from conch_batch.model import Model
from conch_client import ModelInfo
from conch_contract import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


def job(server: str) -> Job:
    return Job(inputs=(), output="", task=Embedding(), model="m", server=server)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Makes all requests get one answer, or what a function makes of them."""

    def answer(response: Answer) -> None:
        real = httpx.Client
        transport = httpx.MockTransport(response if callable(response) else lambda _: response)

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
    response: httpx.Response, message: str, answering: Callable[[Answer], None]
) -> None:
    answering(response)
    with pytest.raises(EngineError, match=message):
        deployment.describe(job("http://somewhere"))


@pytest.mark.parametrize("key", ["a\nsecret", "“secret”", "secret\0"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(EngineError, match="CONCH_API_KEY") as refused:
        deployment.describe(replace(job("http://somewhere"), api_key=key))
    assert "secret" not in str(refused.value)


def test_a_line_end_behind_a_key_is_not_part_of_it(answering: Callable[[Answer], None]) -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["authorization"])
        return httpx.Response(404)

    answering(answer)
    with pytest.raises(EngineError):
        deployment.describe(replace(job("http://somewhere"), api_key="secret\n"))
    assert keys == ["Bearer secret"]


@pytest.mark.parametrize("server", ["localhost:8080", "http://", "http://[::1", "http://a:b:c"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(EngineError, match="is no address of a gateway"):
        deployment.describe(job(server))


def test_a_server_that_is_not_there_is_not_waited_for_as_long_as_one_that_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deployment, "_FIRST_PATIENCE_S", 0.0)
    with pytest.raises(EngineError, match="does not answer: ConnectError"):
        deployment.describe(job("http://127.0.0.1:9"))


class Small:
    """A gateway that takes few texts at once, whose vectors are the lengths of texts, and that refuses some texts."""

    schema = pa.schema([("vector", pa.list_(pa.float32(), 1))])
    info = ModelInfo(
        name="m", task=Task.EMBEDDING, max_length=9, max_rows=9, inputs=(), output="", tokenizer="",
        tokenizer_sha256="", tokenizer_bytes=0, dimension=1,
    )  # fmt: skip

    def __init__(self, most: int, status: int) -> None:
        self.model = Model(self.info, None, self.schema, {})
        self._most, self._status = most, status
        self.answered: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        if len(texts) > self._most:
            return httpx.Response(self._status, json={"error": {"message": "the request is too large"}})
        if "bad" in texts:
            return httpx.Response(400, json={"error": {"message": "the text is bad"}})
        self.answered += texts
        vectors = [base64.b64encode(np.array([len(text)], "<f4").tobytes()).decode() for text in texts]
        usage = {"total_tokens": sum(map(len, texts))}
        return httpx.Response(200, json={"data": [{"embedding": each} for each in vectors], "usage": usage})


@pytest.mark.parametrize("status", [400, 413], ids=["too many texts or tokens", "too many bytes"])
def test_texts_that_are_too_large_together_are_sent_in_parts_and_only_a_bad_one_is_refused(
    status: int, answering: Callable[[Answer], None]
) -> None:
    gateway = Small(5, status)
    answering(gateway)
    engine = deployment.Deployment(job("http://somewhere"), gateway.model)
    texts = ["a" * length for length in range(1, 100)]
    answers = engine.compute([*texts[:8], "bad", *texts[8:]])

    assert answers.rows.column("vector").to_pylist() == [[float(len(text))] for text in texts]
    assert answers.tokens == sum(map(len, texts))
    assert answers.refused == {"bad": "the text is bad"}
    assert sorted(gateway.answered) == texts  # each once: they use a quota


def test_where_all_texts_are_refused_or_there_are_none_there_are_no_answers(
    answering: Callable[[Answer], None],
) -> None:
    gateway = Small(5, 400)
    answering(gateway)
    engine = deployment.Deployment(job("http://somewhere"), gateway.model)
    for texts in ([], ["bad"]):
        answers = engine.compute(texts)
        assert (len(answers.rows), answers.tokens, list(answers.refused)) == (0, 0, texts)


def test_authorities_of_ones_own_are_those_of_ssl_cert_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            monkeypatch.setattr(deployment, "_FIRST_PATIENCE_S", 0.0)
            with pytest.raises(EngineError, match="answers 501"):  # as this server answers everything
                deployment.describe(job(f"https://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()
            thread.join()


def test_authorities_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "nowhere.pem")
    with pytest.raises(EngineError, match="SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"):
        deployment.describe(job("https://127.0.0.1:9"))
