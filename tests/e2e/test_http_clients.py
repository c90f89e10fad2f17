"""HTTP clients as people have them installed: a body over the limit is told, and Java's offer of h2c costs nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent / "http_clients"
TIMEOUT_S = 300


class Said(NamedTuple):
    """What a client tells of an answer."""

    status: int
    text: str


def _urllib(url: str, file: Path) -> Said:
    request = urllib.request.Request(url, file.read_bytes())  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return Said(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, error.read().decode())


def _requests(url: str, file: Path) -> Said:
    answer = requests.post(url, data=file.read_bytes(), timeout=TIMEOUT_S)
    return Said(answer.status_code, answer.text)


def _requests_in_chunks(url: str, file: Path) -> Said:
    content = file.read_bytes()
    parts = (content[at : at + 65_536] for at in range(0, len(content), 65_536))
    answer = requests.post(url, data=parts, timeout=TIMEOUT_S)
    return Said(answer.status_code, answer.text)


def _httpx(url: str, file: Path) -> Said:
    answer = httpx.post(url, content=file.read_bytes(), timeout=TIMEOUT_S)
    return Said(answer.status_code, answer.text)


def _command(*arguments: str) -> Callable[[str, Path], Said]:
    def post(url: str, file: Path) -> Said:
        given = [argument.format(url=url, file=file) for argument in arguments]
        done = subprocess.run(given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr
        status, _, text = done.stdout.partition("\n")
        return Said(int(status), text)

    return post


def _curl(*options: str) -> Callable[[str, Path], Said]:
    shown = [
        "--silent",
        "--show-error",
        "--write-out",
        "%{{stderr}}%{{http_code}}",
        "--data-binary",
        "@{file}",
        "{url}",
    ]

    def post(url: str, file: Path) -> Said:
        given = [argument.format(url=url, file=file) for argument in shown]
        done = subprocess.run(
            ["curl", *options, *given], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return Said(int(done.stderr), done.stdout)

    return post


def _installed(program: str, post: Callable[[str, Path], Said], name: str) -> object:
    missing = shutil.which(program) is None
    return pytest.param(post, id=name, marks=pytest.mark.skipif(missing, reason=f"there is no {program} on the PATH"))


CLIENTS = [
    pytest.param(_urllib, id="urllib"),
    pytest.param(_requests, id="requests"),
    pytest.param(_requests_in_chunks, id="requests in chunks"),
    pytest.param(_httpx, id="httpx"),
    _installed("curl", _curl("--header", "Expect:"), "curl"),
    _installed("curl", _curl("--header", "Expect: 100-continue"), "curl that expects to be asked"),
    _installed("node", _command("node", str(HERE / "post.mjs"), "fetch", "{url}", "{file}"), "Node's fetch"),
    _installed("node", _command("node", str(HERE / "post.mjs"), "http", "{url}", "{file}"), "Node's http"),
    _installed("javac", _command("java", str(HERE / "Post.java"), "{url}", "{file}"), "Java's HttpClient"),
]


@pytest.mark.parametrize("post", CLIENTS)
@pytest.mark.parametrize("size", [10_000_000, 40_000_000])
def test_a_body_over_the_limit_is_told_to_who_writes_it_first(
    post: Callable[[str, Path], Said], size: int, gateway_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"input": ["word " * 1_000] * (size // 5_000)}), encoding="utf-8")

    said = post(f"{gateway_url}/v1/embeddings", file)

    assert said.status == 413
    assert "larger than" in json.loads(said.text)["error"]["message"]


@pytest.mark.parametrize("post", CLIENTS)
def test_a_body_within_it_is_answered(post: Callable[[str, Path], Said], gateway_url: str, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"input": ["a cat", "a dog"], "model": "all-minilm-l6-v2"}), encoding="utf-8")

    said = post(f"{gateway_url}/v1/embeddings", file)

    assert said.status == 200
    assert [len(item["embedding"]) for item in json.loads(said.text)["data"]] == [384, 384]
