"""Logs of a real `conch serve` in which everything has gone wrong: they hold no secret and no text of a request."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
from conch_gateway.auth.keys import create_key

from tests.raw_http import Connection, request
from tests.serving import Serving
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = "zebra quagga okapi"
SECRETS = {
    "CONCH_API_KEYS": "env:secret-of-the-environment",
    "CONCH_ADMIN_KEY": "secret-of-the-administrator",
    "CONCH_TRITON_ADMIN_KEY": "secret-of-triton",
    "THEIR_KEY": "secret-of-the-other-server",
}
GUESS = "secret-that-is-wrong"


class _Parrot(BaseHTTPRequestHandler):
    """Another server: it fails as its path says, and repeats all that it was sent."""

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["content-length"])).decode() + str(self.headers)
        body = json.dumps({"error": {"message": said}}).encode()
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def parrot() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Parrot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    return create_key(tmp_path_factory.getbasetemp() / "keys.json", "tester")


@pytest.fixture(scope="module")
def serving(
    default_repository: Path, tmp_path_factory: pytest.TempPathFactory, parrot: str, key: str
) -> Iterator[Serving]:
    folder, models = tmp_path_factory.mktemp("secrecy"), tmp_path_factory.getbasetemp() / "parrots.toml"
    models.write_text(
        "\n".join(
            f'[parrot-{status}]\nurl = "{parrot}/{status}"\nmodel = "m"\napi_key_env = "THEIR_KEY"\nretries = 0'
            for status in (200, 400, 401, 429, 500)
        ),
        encoding="utf-8",
    )
    settings = {
        "CONCH_API_KEYS_FILE": str(tmp_path_factory.getbasetemp() / "keys.json"),
        "CONCH_MODELS_FILE": str(models),
        "CONCH_ACCESS_LOG": "true",
        "CONCH_LOG_LEVEL": "debug",
        "CONCH_MAX_BODY_BYTES": "10000",
    }
    with Serving(default_repository, folder, **SECRETS, **settings) as started:
        yield started


def test_logs_hold_no_secret_and_no_text(serving: Serving, key: str) -> None:
    with httpx.Client(base_url=serving.url, timeout=60) as http:
        statuses = set(_all_that_goes_wrong(http, key))
        _raw(serving.port, key)
        stub = serving.stubs[0]
        stub.kill()
        statuses |= {_post(http, key, {"input": TEXT}) for _ in range(3)}
        until(lambda: http.get("/health/ready").status_code == 200, 60)
    assert {200, 400, 401, 403, 404, 413, 415, 422, 429, 502} <= statuses

    told = serving.said + serving.printed + serving.triton_log.read_text(encoding="utf-8", errors="replace")
    assert '"status":502' in told
    assert '"route":"/v1/embeddings"' in told
    words = [*TEXT.split(), key, GUESS, *(value.rpartition(":")[2] for value in SECRETS.values())]
    assert [word for word in words if word in told] == []


def _post(http: httpx.Client, key: str, body: object, path: str = "/v1/embeddings", **headers: str) -> int:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(path, content=content, headers={"authorization": f"Bearer {key}", **headers}).status_code


def _all_that_goes_wrong(http: httpx.Client, key: str) -> Iterator[int]:
    yield _post(http, key, {"input": TEXT})
    yield _post(http, key, {"query": TEXT, "documents": [TEXT, TEXT]}, "/v1/rerank")
    yield _post(http, key, {"inputs": TEXT}, "/tokenize")
    yield _post(http, GUESS, {"input": TEXT})
    yield _post(http, key, {"input": TEXT}, f"/v1/embeddings?api_key={GUESS}&text={TEXT}")
    yield _post(http, key, {"input": TEXT, "model": TEXT})
    yield _post(http, key, {"input": TEXT, "dimensions": 10**6})
    yield _post(http, key, {"input": {"text": TEXT}, "user": key})
    yield _post(http, key, f'{{"input": "{TEXT}'.encode())
    yield _post(http, key, f'{{"input": "{TEXT}"}}'.encode("utf-16"))
    yield _post(http, key, {"input": TEXT * 1_000})
    yield _post(http, key, gzip.compress(TEXT.encode()), **{"content-encoding": "gzip"})
    yield _post(http, key, TEXT.encode(), **{"content-encoding": "br"})
    yield _post(http, key, {"input": TEXT}, "/v1/nowhere", **{"x-request-id": TEXT, "traceparent": TEXT})
    yield _post(http, key, {}, "/admin/reload")
    yield _post(http, SECRETS["CONCH_ADMIN_KEY"], {}, "/admin/reload")
    yield _post(http, SECRETS["CONCH_ADMIN_KEY"], {}, f"/admin/models/{TEXT}/load")
    for status in (200, 400, 401, 429, 500):
        yield _post(http, key, {"input": TEXT, "model": f"parrot-{status}"})


def _raw(port: int, key: str) -> None:
    """What is no HTTP, and a caller who leaves."""
    authorization, body = f"Authorization: Bearer {key}", json.dumps({"input": TEXT}).encode()
    for sent in (
        request("/v1/embeddings", body, authorization, "X : y"),
        request(f"/{TEXT}", body, authorization),
        request("/v1/embeddings", body, authorization)[:-3],
        request("/v1/embeddings", body, authorization),
    ):
        with contextlib.suppress(ConnectionError), Connection(port) as connection:
            connection.send(sent)
