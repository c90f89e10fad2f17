"""What the models file may say, and what it is told when it says something else."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway import GatewayError, GatewaySettings
from conch_gateway.backends import upstream_server
from conch_gateway.backends.upstream_table import UpstreamTable
from conch_gateway.models.models_file import read_models_file

if TYPE_CHECKING:
    from conch_client import ModelInfo

    from tests.unit.gateway.conftest import Serve, StandIn
    from tests.unit.gateway.other_server import OtherServer

DOCS = Path(__file__).parents[3] / "docs" / "models.md"
FAR = '[a]\nurl = "http://b/v1"\nmodel = "b"\n'
ADMIN = {"authorization": "Bearer key-of-the-administrator"}


def write(path: Path, content: str) -> None:
    path.write_text(content)


@pytest.fixture
def models_file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text('[code-search]\nmodel = "letters"\n["tool/selection"]\nmodel = "letters"\n')
    return path


async def test_an_alias_is_answered_by_its_model_under_the_models_own_name(http_with: Serve, models_file: Path) -> None:
    async with http_with(models_file=models_file) as http:
        aliased, direct = [
            (await http.post("/v1/embeddings", json={"model": name, "input": "abc"})).json()
            for name in ("tool/selection", "letters")
        ]
    assert aliased == direct
    assert aliased["model"] == "letters"


async def test_aliases_are_listed_with_the_facts_of_their_model(http_with: Serve, models_file: Path) -> None:
    async with http_with(models_file=models_file) as http:
        listed = (await http.get("/v1/models")).json()["data"]
        described = (await http.get("/v1/models/code-search")).json()
    assert [model["id"] for model in listed] == ["code-search", "letters", "overlap", "tool/selection"]
    assert described == listed[0]


async def test_a_default_model_may_be_an_alias(http_with: Serve, models_file: Path) -> None:
    async with http_with(models_file=models_file, embedding_model="code-search") as http:
        assert (await http.post("/v1/embeddings", json={"input": "abc"})).json()["model"] == "letters"


async def test_an_alias_of_nothing_is_not_found(http_with: Serve, models_file: Path) -> None:
    write(models_file, '[code-search]\nmodel = "nobody"')
    async with http_with(models_file=models_file) as http:
        refused = await http.post("/v1/embeddings", json={"model": "code-search", "input": "abc"})
    assert refused.status_code == 404
    assert "nobody" in refused.json()["error"]["message"]


async def test_a_model_stands_for_what_was_derived_from_it(http_with: Serve, client: StandIn) -> None:
    client.derive("overlap", base="letters")
    async with http_with() as http:
        ranked = await http.post("/v1/rerank", json={"model": "letters", "query": "a", "documents": ["a", "b"]})
    assert ranked.json()["model"] == "overlap"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("[a\n", "is wrong", id="no TOML"),
        pytest.param("a = 3", "stands outside of a table", id="no table"),
        pytest.param("[a]", r"\[a\] model: Field required", id="nothing said"),
        pytest.param('[a]\nmodel = "b"\nsize = 1', r"\[a\] size: Extra inputs", id="unknown key"),
        pytest.param('[a]\nmodel = "b"\n[b]\nmodel = "c"', "alias of an alias", id="alias of an alias"),
        pytest.param('[a]\nmodel = "b"\nqueries = "b"', "queries is the model itself", id="queries of itself"),
        pytest.param('[a]\nmodel = "b"\nqueries = "d"\n[d]\nmodel = "c"', "queries is an alias", id="queries, alias"),
        pytest.param('[a]\nmodel = "b"\nqueries = "c"\nshadow = "d"', "leave one of them out", id="queries and shadow"),
        pytest.param('[a]\nload = "never"', r"\[a\] load: Input should be 'start', 'lazy' or 'demand'", id="load"),
        pytest.param('[a]\nload = "lazy"', "a: .* set CONCH_TRITON_ADMIN_KEY", id="lazy without control"),
        pytest.param(
            '[a]\nurl = "vllm:8000"\nmodel = "b"',
            r"\[a\] url.0: must be an address such as http://\S+$",
            id="no scheme",
        ),
        pytest.param('[a]\nurl = "http://vllm:port/v1"\nmodel = "b"', r"\[a\] url.0: must be an address", id="no port"),
        pytest.param('[a]\nurl = "http://b/v1?v=1"\nmodel = "b"', r"\[a\] url.0: must be an address", id="a query"),
        pytest.param('[a]\nmodel = "b"\nshadow = "b"', r"\[a\] shadow is the model itself", id="shadow of itself"),
        pytest.param(f'{FAR}api_key_env = "NONE"', "has no NONE", id="no key"),
        pytest.param(f'{FAR}task = "chat"', r"\[a\] task: Input should be 'embedding' or 'rerank'", id="task"),
        pytest.param(f'{FAR}vector_types = ["thick"]', r"\[a\] vector_types.0: Input should be 'dense'", id="a kind"),
        pytest.param(f"{FAR}vector_types = []", r"\[a\] vector_types: ", id="no kind"),
        pytest.param(f'{FAR}task = "rerank"\ndimension = 3', "leave out dimension, or", id="dense"),
        pytest.param(f'{FAR}vector_types = ["late"]\ndimension = 3', "leave out dimension, or", id="length of late"),
        pytest.param(f'{FAR}vector_types = ["late"]\nextensions = false', "set extensions", id="OpenAI's late"),
        pytest.param(f'{FAR}default_prompt_name = "query"', "is none of prompts", id="no such prompt"),
        pytest.param(f"{FAR}matryoshka_dimensions = [0]", r"matryoshka_dimensions.0: ", id="no length"),
        pytest.param(f"{FAR}max_rows = 0", r"\[a\] max_rows: ", id="calls without texts"),
        pytest.param(f"{FAR}calls = 0", r"\[a\] calls: ", id="no calls"),
    ],
)
def test_a_file_that_says_this_is_refused_at_the_start(
    http_with: Serve, models_file: Path, content: str, told: str
) -> None:
    models_file.write_text(content)
    with pytest.raises(GatewayError, match=told):
        http_with(models_file=models_file)


def test_authorities_that_cannot_be_read_are_named_with_their_variable(
    http_with: Serve, models_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "nowhere.pem")
    upstream_server._authorities.cache_clear()
    models_file.write_text(FAR)
    with pytest.raises(GatewayError, match="SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"):
        http_with(models_file=models_file)


def test_a_key_that_is_no_text_is_named_with_its_file(http_with: Serve, models_file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff")
    models_file.write_text(f'{FAR}api_key_file = "{tmp_path}/key"')
    with pytest.raises(GatewayError, match=r"api_key_file \S+/key is not in UTF-8"):
        http_with(models_file=models_file)


@pytest.mark.parametrize("key", [b"", b"\n", "schl\u00fcssel".encode(), b"one\ntwo"])
def test_a_key_that_no_header_can_hold_is_refused_at_the_start(
    http_with: Serve, models_file: Path, tmp_path: Path, key: bytes
) -> None:
    (tmp_path / "key").write_bytes(key)
    models_file.write_text(f'{FAR}api_key_file = "{tmp_path / "key"}"')
    with pytest.raises(GatewayError, match=f"the key in {tmp_path / 'key'}, .* write a key of ASCII") as refused:
        http_with(models_file=models_file)
    assert "ssel" not in str(refused.value)


async def test_a_key_of_the_environment_may_end_in_a_line_end(
    http_of: Serve, other: OtherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_FAR", "opensesame\n")
    async with http_of('api_key_env = "KEY_OF_FAR"') as http:
        answer = await http.post("/v1/embeddings", json={"model": "far", "input": "a"})
    assert answer.status_code == 200
    assert "authorization: bearer opensesame\r\n" in other.heads[0]


def test_a_file_that_is_not_there_is_named_with_its_setting(http_with: Serve, tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"nowhere.toml \(CONCH_MODELS_FILE\)"):
        http_with(models_file=tmp_path / "nowhere.toml")


@pytest.mark.parametrize("example", re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL))
def test_the_examples_of_the_documentation_are_understood(models_file: Path, example: str) -> None:
    models_file.write_text(example)
    assert read_models_file(models_file, {"url": UpstreamTable}).backends


async def test_of_two_readings_the_later_counts_although_the_first_takes_longer(
    http_with: Serve, client: StandIn, models_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, told, model = asyncio.Event(), asyncio.Event(), client.model

    async def slow(name: str, **options: Any) -> ModelInfo:
        asked.set()
        await told.wait()
        return await model(name, **options)

    async with http_with(models_file=models_file, admin_key="key-of-the-administrator") as http:
        monkeypatch.setattr(client, "model", slow)
        write(models_file, '[search]\nmodel = "letters"')
        first = asyncio.create_task(http.post("/admin/reload", headers=ADMIN))
        await asked.wait()
        monkeypatch.setattr(client, "model", model)
        write(models_file, '[search]\nmodel = "overlap"')
        second = asyncio.create_task(http.post("/admin/reload", headers=ADMIN))
        for _ in range(100):  # enough for the second one to end, did it not wait
            await asyncio.sleep(0)
        told.set()
        assert [(await reading).status_code for reading in (first, second)] == [200, 200]
        assert (await http.get("/admin/models", headers=ADMIN)).json()["aliases"] == {"search": "overlap"}


async def test_the_file_is_read_again_when_an_administrator_says_so(http_with: Serve, models_file: Path) -> None:
    async with http_with(models_file=models_file, admin_key="key-of-the-administrator") as http:
        write(models_file, '[code-search]\nmodel = "overlap"')
        assert (await http.get("/v1/models/code-search")).json()["task"] == "embedding"
        assert (await http.post("/admin/reload", headers=ADMIN)).status_code == 200
        assert (await http.get("/v1/models/code-search")).json()["task"] == "late-interaction"
        write(models_file, "nonsense")
        assert (await http.post("/admin/reload", headers=ADMIN)).status_code == 400
        write(models_file, '[code-search]\nmodel = "none"')
        refused = await http.post("/admin/reload", headers=ADMIN)
        assert refused.status_code == 400
        assert "the models file is wrong: [code-search]" in refused.json()["error"]["message"]
        assert (await http.get("/v1/models/code-search")).json()["task"] == "late-interaction"


async def test_administration_is_shut_to_who_has_no_key(http_with: Serve) -> None:
    async with http_with() as http:
        assert (await http.get("/admin/models", headers=ADMIN)).status_code == 403
    async with http_with(admin_key="key-of-the-administrator") as http:
        assert (await http.get("/admin/models")).status_code == 401
        assert (await http.get("/admin/models", headers={"authorization": "Bearer key"})).status_code == 401
        assert (await http.get("/admin/models", headers=ADMIN)).status_code == 200


async def test_models_of_a_triton_that_lets_none_be_changed_are_not_loaded(http_with: Serve) -> None:
    async with http_with(admin_key="key-of-the-administrator") as http:
        refused = await http.post("/admin/models/letters/load", headers=ADMIN)
    assert refused.status_code == 400
    assert "CONCH_TRITON_ADMIN_KEY" in refused.json()["error"]["message"]


def test_keys_are_not_shown() -> None:
    settings = GatewaySettings(admin_key="secret-one", triton_admin_key="secret-two")
    assert "secret" not in repr(settings)
