"""What a real `conch serve` tells while everything goes wrong: logs without secrets, and series for every query."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
from conch_gateway.auth.keys import create_key

from deploy.grafana import dashboard
from deploy.prometheus import series
from deploy.prometheus.running import Prometheus
from tests.raw_http import Connection, request
from tests.serving import Serving, free_ports
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
GUESS, OF_REDIS = "secret-that-is-wrong", "secret-of-redis"


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
        )
        + '\n[search]\nmodel = "all-minilm-l6-v2"\nshadow = "parrot-200"\nshadow_share = 1.0\n',
        encoding="utf-8",
    )
    settings = {
        "CONCH_API_KEYS_FILE": str(tmp_path_factory.getbasetemp() / "keys.json"),
        "CONCH_MODELS_FILE": str(models),
        "CONCH_ACCESS_LOG": "true",
        "CONCH_LOG_LEVEL": "debug",
        "CONCH_MAX_BODY_BYTES": "10000",
        "CONCH_CACHE_MB": "1",
        "CONCH_REDIS_URL": f"redis://:{OF_REDIS}@127.0.0.1:9/0",  # where nobody listens
        "CONCH_CANARY_INTERVAL_S": "0.5",
        "CONCH_BATCH_DATABASE": str(folder / "batches.sqlite"),
    }
    with Serving(default_repository, folder, **SECRETS, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def prometheus(serving: Serving, tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[Prometheus]:
    targets = {
        "conch-gateway": f"127.0.0.1:{serving.port}",
        "conch-triton": f"127.0.0.1:{serving.metrics_port}",
    }
    (port,) = free_ports(1)
    with Prometheus(tmp_path_factory.mktemp("prometheus"), port, targets, key) as started:
        yield started


def test_every_query_of_the_rules_and_the_dashboard_returns_series(
    serving: Serving, prometheus: Prometheus, key: str
) -> None:
    with httpx.Client(base_url=serving.url, timeout=60) as http:
        list(_all_that_goes_wrong(http, key))
        until(lambda: prometheus.query('up{job="conch-gateway"} == 1'))
        list(_all_that_goes_wrong(http, key))
    queries = dashboard.queries() | {
        # 0 or 1 in place of series that an alert would fire for.
        rule["alert"]: re.sub(r"(==|[<>])", r"\1 bool", rule["expr"])
        for rule in series.rules()
        if "alert" in rule
    }
    queries |= {rule["record"]: rule["record"] for rule in series.rules() if "record" in rule}
    filled = {place: query.replace(dashboard.RATE, "30s").replace("$model", ".*") for place, query in queries.items()}

    def without_series() -> dict[str, str]:
        return {place: query for place, query in filled.items() if not prometheus.query(query)}

    with contextlib.suppress(AssertionError):
        until(lambda: not without_series(), 30)
    assert without_series() == {}
    (memory,) = prometheus.query("conch_server_resident_memory_bytes")
    assert float(memory["value"][1]) > 50e6
    (cosine,) = prometheus.query("conch_gateway_canary_cosine")
    assert 0.9999 < float(cosine["value"][1]) <= 1.00001  # the default model in fp32


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
    assert "Redis cannot be used" in told
    assert '"route":"/v1/embeddings"' in told
    words = [*TEXT.split(), key, GUESS, OF_REDIS, *(value.rpartition(":")[2] for value in SECRETS.values())]
    assert [word for word in words if word in told] == []


def _post(http: httpx.Client, key: str, body: object, path: str = "/v1/embeddings", **headers: str) -> int:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(path, content=content, headers={"authorization": f"Bearer {key}", **headers}).status_code


def _all_that_goes_wrong(http: httpx.Client, key: str) -> Iterator[int]:
    yield _post(http, key, {"input": TEXT})
    yield _post(http, key, {"input": TEXT, "model": "search"})
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
