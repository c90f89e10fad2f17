"""Other people's clients, unmodified and current, get what our own client gets."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.known_fields import known_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_client import Client

    from tests.clients.conftest import Served, Work

    SaidBy = Callable[[str], dict[str, Any]]


def of_each(client: str, said: str, *providers: str) -> list[tuple[str, str]]:
    """What a client of several providers says of each."""
    return [(client, f"{said} {provider}") for provider in providers]


ONE_DIALECT = [
    "openai_sdk",
    "cohere_sdk",
    "voyage_sdk",
    "huggingface_hub_sdk",
    "ollama_sdk",
    "tritonclient_sdk",
    "langchain_sdk",
    "llama_index_sdk",
    "haystack_sdk",
    "node/openai",
    "node/cohere",
    "node/ollama",
    "node/voyage",
]
CLIENTS = [*ONE_DIALECT, "litellm_sdk", "semantic_router_sdk", "pymilvus_sdk"]
RETRYING = ["openai_sdk", "cohere_sdk", "voyage_sdk"]
VECTORS = [
    *((client, "vectors") for client in ONE_DIALECT),
    *((client, "vectors after a pause") for client in RETRYING),
    ("openai_sdk", "vectors of a batch"),
    ("langchain_sdk", "vectors over TEI"),
    *of_each("langchain_sdk", "vectors of", "Azure", "Cohere", "Jina", "NIM", "Ollama"),
    ("llama_index_sdk", "vectors over TEI"),
    *of_each("llama_index_sdk", "vectors of", "Cohere", "Jina", "NIM", "Ollama"),
    *of_each("haystack_sdk", "vectors of", "OpenAI", "Cohere", "Jina", "NIM"),
    *of_each("litellm_sdk", "vectors of", "OpenAI", "Azure", "Voyage", "Jina", "Cohere", "NIM", "vLLM", "infinity"),
    ("litellm_sdk", "vectors through the proxy"),
    *of_each("semantic_router_sdk", "vectors of", "NIM", "Jina", "Cohere"),
    *of_each("pymilvus_sdk", "vectors of", "OpenAI", "Jina", "Cohere"),
    ("node/cohere", "vectors of inputs"),
]
RANKINGS = [
    *((client, "ranking") for client in ("cohere_sdk", "voyage_sdk", "llama_index_sdk", "haystack_sdk")),
    *((client, "ranking") for client in ("node/cohere", "node/voyage")),
    *((client, "ranking by title") for client in ("cohere_sdk", "node/cohere")),
    *of_each("langchain_sdk", "ranking of", "Cohere", "Jina", "NIM", "Voyage"),
    ("llama_index_sdk", "ranking over TEI"),
    *of_each("llama_index_sdk", "ranking of", "Jina", "NIM"),
    *of_each("haystack_sdk", "ranking of", "Cohere", "Jina", "NIM"),
    *of_each("litellm_sdk", "ranking of", "Voyage", "Jina", "Cohere", "NIM", "vLLM", "TEI", "infinity"),
    ("litellm_sdk", "ranking through the proxy"),
    *of_each("rerankers_sdk", "ranking of", "Voyage", "Jina", "Cohere", "TEI"),
    ("pymilvus_sdk", "ranking of Jina"),
]
REFUSALS = [
    *((client, "refusal") for client in CLIENTS),
    *((client, "refusal of Jina") for client in ("langchain_sdk", "pymilvus_sdk")),
    ("litellm_sdk", "refusal of Voyage"),
]
SIGNATURES = {
    "openai_sdk": {"/v1/embeddings": "OpenAI"},
    "voyage_sdk": {"/v1/embeddings": "Voyage", "/v1/rerank": "Voyage"},
    "cohere_sdk": {
        "/v2/embed": "Cohere 2",
        "/v2/rerank": "Cohere 2",
        "/v1/embed": "Cohere 1",
        "/v1/rerank": "Cohere 1",
    },
    "huggingface_hub_sdk": {"/embed": "TEI"},
    "ollama_sdk": {"/api/embed": "Ollama", "/api/embeddings": "Ollama"},
}


@pytest.mark.parametrize(("client", "vectors"), VECTORS)
def test_vectors_are_those_of_our_own_client(
    client: str, vectors: str, said_by: SaidBy, triton: Client, work: Work
) -> None:
    expected = triton.embed(work["texts"], model=work["model"])

    np.testing.assert_allclose(np.array(said_by(client)[vectors]), expected, atol=1e-5)


@pytest.mark.parametrize(("client", "ranking"), RANKINGS)
def test_documents_are_ranked_as_by_our_own_client(
    client: str, ranking: str, said_by: SaidBy, triton: Client, work: Work
) -> None:
    expected = triton.rerank(work["query"], work["documents"], model=work["reranker"])

    said = said_by(client)[ranking]
    assert said == [ranked.index for ranked in expected][: len(said)]
    assert len(said) >= 3


@pytest.mark.parametrize(
    "client",
    [
        "langchain_sdk",
        "llama_index_sdk",
        "haystack_sdk",
        "semantic_router_sdk",
        "voyage_sdk",
        "cohere_sdk",
        "node/voyage",
        "node/cohere",
    ],
)
def test_the_document_is_found(client: str, said_by: SaidBy, work: Work) -> None:
    assert said_by(client)["found"] == work["documents"][1]


@pytest.mark.parametrize(("client", "refusal"), REFUSALS)
def test_what_is_wrong_reaches_the_user_as_the_clients_own_exception(
    client: str, refusal: str, said_by: SaidBy
) -> None:
    # Each script catches its client's class of errors, so the class is right; here is what it says.
    said = said_by(client)[refusal]
    assert any(reason in said for reason in ("no-such-model", "item 0 is empty", "input_type"))


@pytest.mark.parametrize("client", RETRYING)
def test_who_asks_too_much_gets_the_exception_that_the_client_retries(client: str, said_by: SaidBy) -> None:
    assert "has used its 6 requests a minute" in said_by(client)["busy"]


@pytest.mark.parametrize(
    ("client", "path", "provider"),
    [(client, path, provider) for client, paths in SIGNATURES.items() for path, provider in paths.items()],
)
def test_every_field_of_its_calls_is_known(client: str, path: str, provider: str, said_by: SaidBy) -> None:
    assert set(said_by(client)["fields"][path]) <= known_to(provider, path)


@pytest.mark.parametrize("client", ["ollama_sdk", "node/ollama"])
def test_ollamas_clients_find_a_model_that_is_there_and_get_nothing_for_nothing(client: str, said_by: SaidBy) -> None:
    said = said_by(client)
    assert (said["nothing"], said["pulled"]) == ([], "success")


def test_javas_own_client_gets_the_same_although_it_offers_http_2(said_by: SaidBy, triton: Client, work: Work) -> None:
    said = said_by("java")

    vectors = [item["embedding"] for item in said["embedded"]["data"]]
    np.testing.assert_allclose(vectors, triton.embed(work["texts"], model=work["model"]), atol=1e-5)
    assert said["statuses"] == [200, 404]
    assert "no-such-model" in said["refused"]["error"]["message"]


@pytest.mark.parametrize("client", ["openai_sdk", "ollama_sdk", "node/openai", "node/ollama"])
def test_the_other_way_to_ask_gives_the_same_vector(client: str, said_by: SaidBy) -> None:
    said = said_by(client)
    assert said["first vector as floats"] == pytest.approx(said["vectors"][0], abs=1e-6)


@pytest.mark.parametrize(
    ("client", "tag"),
    [
        ("openai_sdk", ""),
        ("cohere_sdk", ""),
        ("ollama_sdk", ":latest"),
        ("node/openai", ""),
        ("node/cohere", ""),
        ("node/ollama", ":latest"),
    ],
)
def test_models_are_listed(client: str, tag: str, said_by: SaidBy, work: Work) -> None:
    assert work["model"] + tag in said_by(client)["models"]


def test_smaller_types_are_made_of_the_same_numbers(said_by: SaidBy) -> None:
    said = said_by("cohere_sdk")
    vectors = np.array(said["vectors"])

    np.testing.assert_allclose(np.array(said["int8"]) / 127, vectors, atol=0.5 / 127 + 1e-6)
    assert (np.unpackbits(np.array(said["ubinary"], np.uint8), axis=1) == (vectors >= 0)).all()


def test_what_was_cut_or_split_is_stated(said_by: SaidBy) -> None:
    cut, split = said_by("cohere_sdk")["warnings"]

    assert cut == ["documents [0] are longer than 5 tokens, and only those were read"]
    assert split[-1].startswith("documents [0] were read in parts")


def test_sentences_are_compared_by_their_vectors(said_by: SaidBy, triton: Client, work: Work) -> None:
    query, *documents = triton.embed([work["query"], *work["documents"]], model=work["model"])

    assert said_by("huggingface_hub_sdk")["similarities"] == pytest.approx(documents @ query, abs=1e-5)


def test_curl_needs_nothing_but_json(served: Served, triton: Client, work: Work) -> None:
    headers = ["--header", f"Authorization: Bearer {work['key']}"]
    curl = ["curl", "--silent", "--fail-with-body", *headers, f"{served.url}/v1/embeddings", "--data"]
    good = subprocess.run([*curl, json.dumps({"input": work["query"]})], capture_output=True, check=True)
    bad = subprocess.run([*curl, '{"input": ""}'], capture_output=True, check=False)

    vector = json.loads(good.stdout)["data"][0]["embedding"]
    np.testing.assert_allclose(vector, triton.embed([work["query"]])[0], atol=1e-5)
    assert bad.returncode == 22  # what --fail-with-body makes of a 4xx
    assert "item 0 is empty" in json.loads(bad.stdout)["error"]["message"]


def test_curl_gets_the_weights_of_words_too(served: Served, triton: Client, work: Work) -> None:
    body = json.dumps({"model": "sparse", "inputs": work["texts"]})
    headers = ["--header", f"Authorization: Bearer {work['key']}"]
    curl = ["curl", "--silent", "--fail-with-body", *headers, f"{served.url}/embed_sparse", "--data", body]
    answer = json.loads(subprocess.run(curl, capture_output=True, check=True).stdout)
    for terms, vector in zip(answer, triton.embed_sparse(work["texts"], model="sparse"), strict=True):
        assert [term["index"] for term in terms] == vector.indices.tolist()
        np.testing.assert_allclose([term["value"] for term in terms], vector.values, atol=1e-6)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on the PATH")
class TestThePageInChromium:
    def test_it_shows_models_and_limits(self, said_by: SaidBy, work: Work) -> None:
        said = said_by("browser")

        assert work["reranker"] in said["models"]
        assert "2,048" in said["limits"]
        assert said["operations"] > 10

    def test_it_embeds_compares_and_ranks(self, said_by: SaidBy, triton: Client, work: Work) -> None:
        said = said_by("browser")

        left, right = triton.embed([work["query"], work["documents"][1]], model=work["model"])
        assert "384 numbers, length 1.0000" in said["embed"]
        assert said["compare"].startswith(f"{left @ right:.4f}"[:5])
        (best,) = [line for line in said["rerank"].splitlines() if line.endswith(work["documents"][1])]
        assert said["rerank"].splitlines()[1] == best

    def test_it_tells_timings_and_what_is_wrong(self, said_by: SaidBy) -> None:
        said = said_by("browser")

        assert "inference" in said["embed"]
        assert "round trip" in said["embed"]
        assert "item 0 is empty" in said["empty text"]

    def test_it_asks_nobody_else_keeps_nothing_and_breaks_no_rule(self, said_by: SaidBy, served: Served) -> None:
        said = said_by("browser")

        assert all(asked.startswith(served.url) for asked in said["asked"])
        assert said["kept"] == '["",{},{}]'
        assert said["complaints"] == []
