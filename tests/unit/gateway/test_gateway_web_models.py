"""Models for the browser: off unless asked for, nothing but what a manifest lists, and with the headers they need."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conch_contract import WEB_FORMAT
from conch_gateway import Gateway, GatewaySettings, create_app
from conch_gateway.api.browser.folder import WebFolder
from conch_gateway.auth.keys import create_key
from conch_gateway.errors import SettingError

from tests.unit.gateway.test_gateway_pages import policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from tests.unit.gateway.conftest import Serve, StandIn

GRAPH = bytes(range(256)) * 1000
TOKENIZER = b'{"version": "1.0"}' * 1000
IMMUTABLE = "max-age=31536000, immutable"
SECRET = "opensesame"
BEARER = {"authorization": f"Bearer {SECRET}"}


def name_of(stem: str, content: bytes, suffix: str) -> str:
    return f"{stem}-{sha256(content).hexdigest()[:16]}{suffix}"


ENCODER, TOKENS = name_of("encoder", GRAPH, ".onnx"), name_of("tokenizer", TOKENIZER, ".json")


def write_model(folder: Path, name: str = "letters") -> None:
    """As `conch web` does."""
    files = {ENCODER: GRAPH, TOKENS: TOKENIZER}
    stated: dict[str, Any] = {
        "format": WEB_FORMAT,
        "name": name,
        "models": [{"name": name, "task": "embedding"}],
        "files": {key: {"bytes": len(each), "sha256": sha256(each).hexdigest()} for key, each in files.items()},
    }
    (folder / name).mkdir()
    for key, each in files.items():
        (folder / name / key).write_bytes(each)
    (folder / name / f"{TOKENS}.gz").write_bytes(gzip.compress(TOKENIZER))
    (folder / name / "conch.json").write_text(json.dumps(stated), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for browsers with the model `letters` and a module, and files beside them that are nobody's business."""
    web = tmp_path / "web"
    (web / "conch-web").mkdir(parents=True)
    (web / "conch-web" / "conch-web.js").write_text("export const load = 0;\n", encoding="utf-8")
    (web / "conch-web" / "ort.wasm").write_bytes(b"\0asm")
    (web / "conch-web" / "notes.html").write_text("<script>1</script>", encoding="utf-8")
    write_model(web)
    (web / "letters" / "notes.json").write_text("{}", encoding="utf-8")
    (tmp_path / "keys.json").write_text("{}", encoding="utf-8")
    return web


async def test_without_the_setting_there_are_none(http: httpx.AsyncClient) -> None:
    listed, file, page = await http.get("/web"), await http.get("/web/letters/conch.json"), await http.get("/")

    assert listed.json() == {"module": None, "models": []}
    assert file.status_code == 404
    assert "CONCH_WEB_MODELS" in file.json()["error"]["message"]
    assert "wasm" not in page.headers["content-security-policy"]
    assert "cross-origin-embedder-policy" not in page.headers


def test_a_folder_that_is_not_there_is_told_at_the_start(http_with: Serve, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"CONCH_WEB_MODELS is .*/nowhere, which is no folder"):
        http_with(web_models=tmp_path / "nowhere")


async def test_models_and_the_module_are_listed(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        listed = (await http.get("/web")).json()

        assert listed == {
            "module": "web/conch-web/conch-web.js",
            "models": [{"name": "letters", "url": "web/letters/", "tasks": {"letters": "embedding"}}],
        }
        assert (await http.get(f"/{listed['module']}")).text.startswith("export")
        assert (await http.get(f"/{listed['models'][0]['url']}conch.json")).json()["name"] == "letters"


async def test_models_come_and_go_without_a_restart(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        write_model(folder, "others")
        (folder / "conch-web" / "conch-web.js").unlink()
        listed = (await http.get("/web")).json()

        assert [model["name"] for model in listed["models"]] == ["letters", "others"]
        assert listed["module"] is None
        (folder / "letters" / "conch.json").unlink()
        gone = await http.get(f"/web/letters/{ENCODER}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
        assert "GET /web lists" in gone.json()["error"]["message"]
        assert "others" not in gone.json()["error"]["message"]  # which not every key may know


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("letters/notes.json", id="beside the files of a model"),
        pytest.param(f"letters/{TOKENS}.gz", id="a compressed form by its own name"),
        pytest.param("letters/encoder-0000000000000000.onnx", id="a file that is not there"),
        pytest.param("conch-web/notes.html", id="a page among the module's files"),
        pytest.param("../keys.json", id="the folder above"),
        pytest.param("%2e%2e/keys.json", id="the folder above, escaped"),
        pytest.param("letters/..%2f..%2fkeys.json", id="two folders above"),
        pytest.param("conch-web/..%2f..%2fkeys.json", id="two folders above the module"),
        pytest.param("conch-web/%2e%2e", id="a folder"),
        pytest.param("%2fetc/passwd", id="an absolute path"),
        pytest.param(".staging/conch.json", id="a hidden folder"),
        pytest.param("letters/conch.json%00.onnx", id="a name with a null"),
    ],
)
async def test_nothing_else_is_served(http_with: Serve, folder: Path, path: str) -> None:
    write_model(folder, ".staging")
    async with http_with(web_models=folder) as http:
        answer = await http.get(f"/web/{path}")

    assert answer.status_code == 404, answer.text


async def test_pages_may_compute_only_where_there_are_models(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        page, docs = await http.get("/"), await http.get("/docs")

    policy = policy_of(page)
    assert policy["script-src"].split()[1:] == ["'self'", "'wasm-unsafe-eval'"]
    assert policy["script-src"].startswith("'sha256-")
    assert (policy["worker-src"], policy["connect-src"], policy["default-src"]) == ("'self'", "'self'", "'none'")
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "wasm" not in docs.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["conch-web/conch-web.js", "conch-web/ort.wasm", "letters/conch.json", f"letters/{ENCODER}"]
)
async def test_files_may_be_used_by_isolated_pages_of_this_origin(http_with: Serve, folder: Path, path: str) -> None:
    async with http_with(web_models=folder) as http:
        answer = await http.get(f"/web/{path}")

    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"  # or no worker would start
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = policy_of(answer)
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("conch-web/conch-web.js", "text/javascript"),
        ("conch-web/ort.wasm", "application/wasm"),
        ("letters/conch.json", "application/json"),
        (f"letters/{ENCODER}", "application/octet-stream"),
    ],
)
async def test_browsers_run_only_what_has_its_type(http_with: Serve, folder: Path, path: str, media_type: str) -> None:
    async with http_with(web_models=folder) as http:
        assert (await http.get(f"/web/{path}")).headers["content-type"].split(";")[0] == media_type


async def test_files_with_a_hash_are_kept_for_ever_and_others_asked_for_again(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        graph, manifest = await http.get(f"/web/letters/{ENCODER}"), await http.get("/web/letters/conch.json")
        known = {"if-none-match": manifest.headers["etag"]}
        again = await http.get("/web/letters/conch.json", headers=known)
        write_model(folder, "others")
        (folder / "others").joinpath("conch.json").replace(folder / "letters" / "conch.json")
        changed = await http.get("/web/letters/conch.json", headers=known)

    assert graph.headers["cache-control"] == f"public, {IMMUTABLE}"
    assert graph.headers["etag"] == f'"{sha256(GRAPH).hexdigest()}"'
    assert manifest.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200


@pytest.mark.parametrize("header", ["if-none-match", "accept-encoding", "range"])
async def test_a_header_takes_no_longer_than_its_length_allows(http_with: Serve, folder: Path, header: str) -> None:
    async with http_with(web_models=folder) as http:
        began = time.thread_time()
        answer = await http.get("/web/letters/conch.json", headers={header: f"a{' ' * 60_000}b"})
        took_s = time.thread_time() - began

    assert answer.status_code in {200, 400}
    assert took_s < 1  # of this thread's processor: a square of that length is far more


async def test_a_download_goes_on_where_it_was_cut(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        whole = await http.get(f"/web/letters/{TOKENS}", headers={"accept-encoding": "identity"})
        etag = whole.headers["etag"]
        rest = await http.get(f"/web/letters/{TOKENS}", headers={"range": "bytes=1000-", "if-range": etag})
        beyond = await http.get(f"/web/letters/{TOKENS}", headers={"range": f"bytes={len(TOKENIZER)}-"})
        other = await http.get(f"/web/letters/{TOKENS}", headers={"range": "bytes=1000-", "if-range": '"another"'})

    assert whole.headers["accept-ranges"] == "bytes"
    assert (rest.status_code, rest.content) == (206, TOKENIZER[1000:])
    assert beyond.status_code == 416
    assert (other.status_code, other.content) == (200, TOKENIZER)


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, br", "gzip"), ("identity", None), ("gzip;q=0", None), ("gzip;q=0.5", "gzip")]
)
async def test_what_compresses_well_is_sent_compressed_to_those_who_read_that(
    http_with: Serve, folder: Path, accepted: str, coding: str | None
) -> None:
    async with http_with(web_models=folder) as http:
        answer = await http.get(f"/web/letters/{TOKENS}", headers={"accept-encoding": accepted})
        graph = await http.get(f"/web/letters/{ENCODER}", headers={"accept-encoding": accepted})

    assert answer.headers.get("content-encoding") == coding
    assert answer.content == TOKENIZER
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["etag"].endswith('-gzip"') == (coding is not None)
    assert "content-encoding" not in graph.headers


async def test_with_keys_models_need_one_that_opens_them_and_the_module_none(
    http_with: Serve, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "gateway-keys.json"
    narrow = create_key(file, "narrow", models=["overlap"])
    async with http_with(web_models=folder, api_keys=f"alice:{SECRET}", api_keys_file=file) as http:
        module, page = await http.get("/web/conch-web/conch-web.js"), await http.get("/")
        without, listed = await http.get(f"/web/letters/{ENCODER}"), await http.get("/web")
        opened = await http.get(f"/web/letters/{ENCODER}", headers=BEARER)
        others = {"authorization": f"Bearer {narrow}"}
        shut, none = await http.get(f"/web/letters/{ENCODER}", headers=others), await http.get("/web", headers=others)

    assert (module.status_code, page.status_code) == (200, 200)
    assert (without.status_code, listed.status_code) == (401, 401)
    assert opened.content == GRAPH
    assert opened.headers["cache-control"] == f"private, {IMMUTABLE}"
    assert (shut.status_code, none.json()["models"]) == (404, [])


async def test_a_keys_requests_are_counted(http_with: Serve, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "gateway-keys.json"
    headers = {"authorization": f"Bearer {create_key(file, 'narrow', requests_per_minute=1)}"}
    async with http_with(web_models=folder, api_keys_file=file) as http:
        answers = [await http.get(f"/web/letters/{ENCODER}", headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]


async def test_a_slow_download_may_take_longer_than_any_request(folder: Path, client: StandIn) -> None:
    large = 2**25  # more than sockets buffer
    with (folder / "letters" / ENCODER).open("wb") as file:
        file.truncate(large)
    gateway = Gateway(GatewaySettings(port=0, web_models=folder, timeout_s=0.05), client=client)
    received = 0
    async with (
        gateway,
        httpx.AsyncClient() as http,
        http.stream("GET", f"{gateway.url}/web/letters/{ENCODER}") as answer,
    ):
        async for part in answer.aiter_raw():
            if not received:
                await asyncio.sleep(0.3)
            received += len(part)

    assert received == large


async def test_nothing_may_be_sent_there(http_with: Serve, folder: Path) -> None:
    async with http_with(web_models=folder) as http:
        assert (await http.post(f"/web/letters/{ENCODER}", content=b"x")).status_code == 405
        assert (await http.head(f"/web/letters/{ENCODER}")).headers["content-length"] == str(len(GRAPH))


async def test_head_reads_none_of_the_file(folder: Path, client: StandIn) -> None:
    app = create_app(GatewaySettings(web_models=folder), client)
    path, sent = f"/web/letters/{ENCODER}", list[dict[str, Any]]()
    scope: dict[str, Any] = {"type": "http", "method": "HEAD", "path": path, "query_string": b"", "headers": []}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)

    start, body = sent  # and not a message for each part of the file
    assert (start["status"], dict(start["headers"])[b"content-length"]) == (200, str(len(GRAPH)).encode())
    assert not body.get("body")


@pytest.fixture
def _hasty_threads() -> Iterator[None]:
    """Threads that take turns all the time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_hasty_threads")
def test_new_models_are_listed_and_read_at_the_same_time(folder: Path) -> None:
    names = [f"model-{number}" for number in range(20)]
    for name in names:
        write_model(folder, name)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            web = WebFolder(folder)  # to which all models are new
            files = [threads.submit(web.file, name, ENCODER, compressed=False) for name in names]
            lists = [threads.submit(web.models) for _ in range(4)]
            assert all(file.result().path.name == ENCODER for file in files)
            assert all(each.result().keys() == {"letters", *names} for each in lists)


async def test_a_damaged_manifest_is_told_and_hides_no_other_model(http_with: Serve, folder: Path) -> None:
    write_model(folder, "others")
    (folder / "letters" / "conch.json").write_text('{"format": 2}', encoding="utf-8")
    async with http_with(web_models=folder) as http:
        listed, damaged = await http.get("/web"), await http.get(f"/web/letters/{ENCODER}")

    assert [model["name"] for model in listed.json()["models"]] == ["others"]
    assert damaged.status_code == 500
