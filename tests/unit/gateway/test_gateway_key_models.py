"""Keys for some models only: for who brings one, other models are not there, whatever is asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from conch_gateway.auth import keyring as _keyring
from conch_gateway.auth.keys import create_key
from conch_gateway.backends import triton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    from tests.unit.gateway.conftest import Serve, StandIn
    from tests.unit.gateway.other_server import OtherServer

    Opened = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

LETTERS = ["letters", "letters-sparse", "letters-tokens"]


@pytest.fixture
def opened(http_with: Serve, every_kind: StandIn, tmp_path: Path) -> Opened:
    """A client with a key for these names, of a gateway with three aliases."""
    models_file, keys_file = tmp_path / "models.toml", tmp_path / "keys.json"
    models_file.write_text('finder = {model = "letters"}\nranks = {model = "overlap"}\ngone = {model = "nobody"}')

    @contextlib.asynccontextmanager
    async def serving(*names: str, **settings: Any) -> Any:
        secret = create_key(keys_file, "alice", models=names)
        async with http_with(models_file=models_file, api_keys_file=keys_file, **settings) as http:
            http.headers["authorization"] = f"Bearer {secret}"
            yield http

    return serving


def names_in(answer: httpx.Response, known: Iterable[str] = ("overlap", "ranks", *LETTERS, "finder")) -> set[str]:
    """Names of models in an answer, whole words only."""
    words = set(answer.text.replace(",", " ").replace('"', " ").replace("'", " ").split())
    return words & set(known)


@pytest.mark.parametrize(
    ("key", "listed"),
    [
        pytest.param(["letters"], {"letters", "finder"}, id="a model, under all its names"),
        pytest.param(["finder"], {"finder"}, id="an alias alone"),
        pytest.param(["letters-sparse", "ranks"], {"letters-sparse", "ranks"}, id="several"),
        pytest.param(["nowhere"], set(), id="none that is served"),
    ],
)
async def test_it_lists_what_it_opens(opened: Opened, key: list[str], listed: set[str]) -> None:
    async with opened(*key) as http:
        models = await http.get("/v1/models")
        tags = await http.get("/api/tags")
    assert {model["id"] for model in models.json()["data"]} == listed
    assert {model["name"] for model in models.json()["models"]} == listed
    assert names_in(models) == listed
    assert {model["name"] for model in tags.json()["models"]} == {
        f"{name}:latest" for name in listed & {"letters", "finder"}
    }


SURFACES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "OpenAI's vectors": ("/v1/embeddings", {"input": "a"}),
    "token vectors": ("/v1/embeddings", {"input": "a", "vector_type": "late"}),
    "sparse vectors": ("/v1/embeddings", {"input": "a", "vector_type": "sparse"}),
    "Cohere's vectors": ("/v2/embed", {"texts": ["a"]}),
    "TEI's vectors": ("/embed", {"inputs": "a"}),
    "TEI's token vectors": ("/embed_all", {"inputs": "a"}),
    "TEI's sparse vectors": ("/embed_sparse", {"inputs": "a"}),
    "similarity": ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    "tokens": ("/tokenize", {"inputs": "a"}),
    "texts of tokens": ("/decode", {"ids": [97]}),
    "pooling": ("/pooling", {"input": "a"}),
    "Ollama's vectors": ("/api/embed", {"input": "a"}),
    "Ollama's vector": ("/api/embeddings", {"prompt": "a"}),
    "Ollama's description": ("/api/show", {}),
    "Jina's ranking": ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    "Cohere's ranking": ("/v2/rerank", {"query": "a", "documents": ["b"]}),
    "TEI's ranking": ("/rerank", {"query": "a", "texts": ["b"]}),
    "NIM's ranking": ("/v1/ranking", {"query": {"text": "a"}, "passages": [{"text": "b"}]}),
    "vLLM's scores": ("/score", {"text_1": "a", "text_2": "b"}),
    "TEI's scores": ("/predict", {"inputs": ["a", "b"]}),
}
RANKS = {"Jina's ranking", "Cohere's ranking", "TEI's ranking", "NIM's ranking", "vLLM's scores", "TEI's scores"}
surfaces = pytest.mark.parametrize("surface", SURFACES)


async def ask(http: httpx.AsyncClient, surface: str, model: str | None) -> httpx.Response:
    path, body = SURFACES[surface]
    return await http.post(path, json={**(body or {}), **({} if model is None else {"model": model})})


@surfaces
async def test_it_opens_what_it_is_for(opened: Opened, surface: str) -> None:
    async with opened("letters", "overlap") as http:
        answer = await ask(http, surface, "overlap" if surface in RANKS else "letters")
    assert answer.status_code == 200, answer.text


@surfaces
@pytest.mark.parametrize("model", ["served", "of an alias", "not served"])
async def test_what_it_does_not_open_is_not_there(opened: Opened, client: StandIn, surface: str, model: str) -> None:
    served, alias, key = ("overlap", "ranks", "letters") if surface in RANKS else ("letters", "finder", "ranks")
    name = {"served": served, "of an alias": alias, "not served": "nowhere"}[model]
    async with opened(key) as http:
        answer = await ask(http, surface, name)
        unknown = await ask(http, surface, "other")
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert answer.text.replace(name, "other") == unknown.text
    assert client.calls == []


@surfaces
async def test_an_alias_opens_all_that_it_stands_for_and_is_the_only_name_told(opened: Opened, surface: str) -> None:
    alias = "ranks" if surface in RANKS else "finder"
    async with opened(alias) as http:
        answer = await ask(http, surface, alias)
        direct = await ask(http, surface, "overlap" if surface in RANKS else "letters")
    assert (answer.status_code, direct.status_code) == (200, 404), answer.text
    assert names_in(answer) <= {alias}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/embeddings", {"input": "a", "prompt_name": "none"}, id="no such prompt"),
        pytest.param("/tokenize", {"inputs": "a", "prompt_name": "none"}, id="no such prompt to tokenise with"),
        pytest.param("/v1/embeddings", {"input": "a", "dimensions": 9}, id="too many dimensions"),
        pytest.param("/v1/embeddings", {"input": "a", "normalize": False}, id="raw vectors"),
        pytest.param("/v1/embeddings", {"input": "a", "vector_type": "late"}, id="too many token vectors"),
        pytest.param("/v1/rerank", {"query": "a", "documents": ["a"]}, id="not a reranker"),
    ],
)
async def test_an_error_does_not_name_the_model_behind_an_alias(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(triton, "_MOST_NUMBERS", 2)
    async with opened("finder") as http:
        answer = await http.post(path, json={"model": "finder", **body})
    assert answer.status_code == 400, answer.text
    assert names_in(answer) <= {"finder"}


@pytest.mark.parametrize("surface", [name for name in SURFACES if not name.startswith("Ollama's")])
async def test_without_a_model_the_first_that_it_opens_answers(opened: Opened, surface: str) -> None:
    async with opened("finder", "ranks", embedding_model="letters", rerank_model="overlap") as http:
        answer = await ask(http, surface, None)
    assert answer.status_code == 200, answer.text
    assert names_in(answer) <= {"finder", "ranks"}


@pytest.mark.parametrize("table", ['[{name}]\nurl = "{url}"\nmodel = "far"\n', '[{name}]\nmodel = "letters"\n'])
async def test_without_a_model_the_first_by_name_answers_not_the_first_of_the_models_file(
    opened: Opened, other: OtherServer, tmp_path: Path, table: str
) -> None:
    (tmp_path / "models.toml").write_text("".join(table.format(name=name, url=other.url) for name in ("zeta", "alpha")))
    async with opened("zeta", "alpha") as http:
        answer = await ask(http, "OpenAI's vectors", None)
    assert answer.json()["model"] == "alpha"


@pytest.mark.parametrize("path", ["/v1/models/overlap", "/v1/models/ranks", "/v1/models/nowhere"])
async def test_a_model_that_it_does_not_open_has_no_description(opened: Opened, path: str) -> None:
    async with opened("letters") as http:
        answer = await http.get(path)
    name = path.rpartition("/")[2]
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.json()["error"]["message"] == (f"no model {name!r} is served to key 'alice', which is for: letters")


async def test_a_name_that_it_opens_and_that_is_not_served_tells_of_no_other(opened: Opened) -> None:
    async with opened("gone", "nowhere") as http:
        answers = [await http.get(f"/v1/models/{name}") for name in ("gone", "nowhere")]
        answers += [await ask(http, "OpenAI's vectors", name) for name in ("gone", "nowhere")]
    assert {answer.status_code for answer in answers} == {404}
    assert not set().union(*map(names_in, answers))


async def test_an_alias_of_a_derived_model_does_not_say_what_it_was_derived_from(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "models.toml").write_text('terms = {model = "letters-sparse"}')
    async with opened("terms") as http:
        assert "base" not in (await http.get("/v1/models/terms")).json()


async def test_info_is_of_a_model_that_it_opens(opened: Opened) -> None:
    async with opened("ranks") as http:
        assert (await http.get("/info")).json()["model_id"] == "ranks"


async def test_nims_endings_of_names_work_with_it(opened: Opened) -> None:
    async with opened("finder") as http:
        answer = await ask(http, "OpenAI's vectors", "finder-query")
    assert (answer.status_code, answer.json()["model"]) == (200, "finder")


async def test_metrics_take_a_key_for_all_models(opened: Opened) -> None:
    async with opened("finder") as http:
        answer = await http.get("/metrics")
    assert (answer.status_code, names_in(answer)) == (403, set())


async def test_metrics_count_the_model_behind_an_alias(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keyring, "_LOOK_AGAIN_S", 0.0)
    async with opened("finder", "ranks") as http:
        for surface, model in (("OpenAI's vectors", "finder"), ("vLLM's scores", "ranks")):
            await ask(http, surface, model)
        secret = create_key(tmp_path / "keys.json", "scraper")
        http.headers["authorization"] = f"Bearer {secret}"
        exposition = (await http.get("/metrics")).text
    assert 'conch_gateway_texts_total{model="letters"} 1.0' in exposition
    assert 'conch_gateway_texts_total{model="overlap"} 1.0' in exposition
    assert 'model="finder"' not in exposition


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        pytest.param(None, set(), id="without a key"),
        pytest.param("wrong", set(), id="with a wrong key"),
        pytest.param("right", {"letters"}, id="with a key for one"),
    ],
)
async def test_readiness_names_what_the_key_opens(opened: Opened, key: str | None, shown: set[str]) -> None:
    async with opened("letters") as http:
        if key is None:
            del http.headers["authorization"]
        elif key == "wrong":
            http.headers["authorization"] = "Bearer wrong"
        answer = await http.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert set(answer.json()["models"]) == shown


async def test_a_default_that_fits_nothing_is_told_without_naming_others(opened: Opened) -> None:
    async with opened("letters") as http:
        answer = await ask(http, "Jina's ranking", None)
    assert answer.status_code == 404
    assert answer.json()["message"] == (
        "no model for cross-encoder or late-interaction or rerank is served to key 'alice', which is for: letters"
    )
