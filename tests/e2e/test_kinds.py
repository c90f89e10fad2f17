"""Every kind of model on a real Triton, asked by the client and the gateway: token and sparse vectors, rerankers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import model2vec
import numpy as np
import pytest
import torch
import transformers
from conch_client import Client, InvalidInputError
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.generations.installed import as_installed
from sentence_transformers import SentenceTransformer, SparseEncoder
from tritonclient.grpc.service_pb2 import ModelStatisticsRequest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests import head_checkpoints, kind_checkpoints
from tests.kind_checkpoints import CLASSIFIERS, FACTS, LATE, framed, outputs, tokens
from tests.late_interaction import ColBert, bge_m3_score, bge_m3_vectors
from tests.saved_checkpoints import TEXTS as SAVED_TEXTS
from tests.saved_checkpoints import golden, restore
from tests.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

TEXTS = ["a cat", "the quick brown fox " * 9, "größer, 日本語 and 🐚!", "x", "to be or not to be? " * 40] * 3

QUERIES = ["Where did the cat sit?", "a query that is far too long for what the model takes of a query " * 3, "x"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return kind_checkpoints.make_all(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def serving(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`conch serve` over all of them."""
    repository = tmp_path_factory.mktemp("kinds-models")
    kind_checkpoints.export_all(made, repository)
    models_file = repository.with_name("kinds.toml")
    models_file.write_text('asymmetric = {model = "asymmetric-document", queries = "asymmetric-query"}')
    with Serving(repository, tmp_path_factory.mktemp("serving"), CONCH_MODELS_FILE=str(models_file)) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[Client]:
    with Client(serving.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def ask(serving: Serving) -> Iterator[Callable[..., Any]]:
    """Sends a body to a path of the gateway, and gives what it answers."""
    with httpx.Client(base_url=serving.url, timeout=60) as http:

        def answer(path: str, **body: Any) -> Any:
            response = http.post(path, json=body)
            assert response.status_code == 200, response.text
            return response.json()

        yield answer


def test_every_model_says_what_it_is_and_where_it_comes_from(client: Client) -> None:
    told = {info.name: (info.task, info.base, info.dimension) for info in client.models()}
    assert told == FACTS


def test_sparse_vectors_are_those_of_transformers(client: Client, made: dict[str, Path]) -> None:
    for text, vector in zip(TEXTS, client.embed_sparse(TEXTS, model="splade"), strict=True):
        logits = outputs(made["splade"], "ForMaskedLM", tokens(made["splade"], text)).logits[0]
        expected = torch.log1p(torch.relu(logits)).amax(0).numpy()
        found = np.zeros_like(expected)
        found[vector.indices] = vector.values
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_queries_are_looked_up_and_never_computed(
    client: Client, ask: Callable[..., Any], made: dict[str, Path], serving: Serving
) -> None:
    library = SparseEncoder(str(made["free"]), device="cpu")
    for side, encode in {"document": library.encode_document, "query": library.encode_query}.items():
        expected = encode(TEXTS, convert_to_sparse_tensor=False).numpy()
        before = computed_rows(serving, "free.encoder")
        answer = ask("/v1/embeddings", model="free", input=TEXTS, vector_type="sparse", input_type=side)
        vectors = client.embed_sparse(TEXTS, model="free", prompt_name=side)
        rows = computed_rows(serving, "free.encoder") - before
        assert rows == (2 * len(TEXTS) if side == "document" else 0)
        for item, vector, wanted in zip(answer["data"], vectors, expected, strict=True):
            assert item["embedding"]["indices"] == vector.indices.tolist()
            found = np.zeros_like(wanted)
            found[vector.indices] = vector.values
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_queries_are_embedded_by_the_model_that_their_alias_has_for_them(
    ask: Callable[..., Any], tmp_path: Path
) -> None:
    expected = golden()["checkpoints"]["asymmetric"]["answers"]  # of the whole model, by sentence-transformers 6
    with as_installed(Checkpoint(restore("asymmetric", tmp_path))) as folder:
        library = SentenceTransformer(str(folder), device="cpu")  # and by 5
    for side, encode in {"document": library.encode_document, "query": library.encode_query}.items():
        answer = ask("/v1/embeddings", model="asymmetric", input=SAVED_TEXTS, input_type=side)
        assert answer["model"] == f"asymmetric-{side}"
        found = [item["embedding"] for item in answer["data"]]
        np.testing.assert_allclose(found, expected[side], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found, encode(list(SAVED_TEXTS)), rtol=0, atol=1e-5)


def computed_rows(serving: Serving, model: str) -> int:
    """Rows that a Triton model has computed so far."""
    with grpc.insecure_channel(serving.grpc_url) as channel:
        triton = GRPCInferenceServiceStub(channel)
        (found,) = triton.ModelStatistics(ModelStatisticsRequest(name=model), timeout=10).model_stats
    return int(found.inference_count)


def test_vectors_of_a_static_model_are_those_of_model2vec(client: Client, ask: Callable[..., Any], made: Any) -> None:
    texts = [*TEXTS, "sesquipedalian antidisestablishmentarianism " * 100]
    expected = model2vec.StaticModel.from_pretrained(made["static"]).encode(texts)
    np.testing.assert_allclose(client.embed(texts, model="static"), expected, rtol=0, atol=1e-5)
    answer = ask("/v1/embeddings", model="static", input=texts)
    np.testing.assert_allclose([item["embedding"] for item in answer["data"]], expected, rtol=0, atol=1e-5)
    with pytest.raises(InvalidInputError, match=r"texts\[15\] has 4400 characters and the model reads 3072"):
        client.embed(texts, model="static", truncate="none")


def test_words_of_a_text_weigh_what_the_layer_says(client: Client, made: dict[str, Path]) -> None:
    layer = head_checkpoints.layer_of(made["m3"] / "sparse_linear.safetensors")
    for text, vector in zip(TEXTS, client.embed_sparse(TEXTS, model="m3-sparse"), strict=True):
        ids = tokens(made["m3"], text)
        with torch.inference_mode():
            numbers = torch.relu(layer(outputs(made["m3"], "", ids).last_hidden_state[0]))[:, 0].tolist()
        expected: dict[int, float] = {}
        for word, number in zip(ids, numbers, strict=True):
            if word not in {100, 101, 102} and number > 0:
                expected[word] = max(expected.get(word, 0.0), number)
        assert dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)) == pytest.approx(
            expected, abs=1e-5
        )


def test_token_vectors_of_bge_m3_are_those_that_its_authors_compare(
    client: Client, ask: Callable[..., Any], made: dict[str, Path]
) -> None:
    expected = [bge_m3_vectors(made["m3"], tokens(made["m3"], text)).numpy() for text in TEXTS]
    answers = [client.embed_tokens(TEXTS, model="m3-tokens"), ask("/embed_all", model="m3", inputs=TEXTS)]
    answers.append(client.embed_tokens(client.tokenize(TEXTS, model="m3-tokens"), model="m3-tokens"))
    for answer in answers:
        for vectors, wanted in zip(answer, expected, strict=True):
            np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("query", QUERIES)
def test_scores_of_bge_m3s_late_interaction_are_those_of_its_authors(
    client: Client, made: dict[str, Path], query: str
) -> None:
    texts = list(dict.fromkeys(TEXTS))
    of_query, *vectors = (bge_m3_vectors(made["m3"], tokens(made["m3"], text)) for text in (query, *texts))
    expected = [bge_m3_score(of_query, each) for each in vectors]
    found = {place.index: place.score for place in client.rerank(query, texts, model="m3-maxsim")}
    np.testing.assert_allclose([found[index] for index in range(len(texts))], expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def colbert(made: dict[str, Path]) -> Callable[[str], ColBert]:
    """ColBERT in PyTorch, with the checkpoint of a name."""
    return cache(lambda name: ColBert(made[name], **LATE[name]))


@pytest.mark.parametrize("name", LATE)
def test_queries_and_documents_have_the_vectors_of_colbert(
    client: Client, colbert: Callable[[str], ColBert], name: str
) -> None:
    model = colbert(name)
    expected = {text: model.document(text).numpy() for text in set(TEXTS)}
    for text, vectors in zip(TEXTS, client.embed_tokens(TEXTS, model=name), strict=True):
        np.testing.assert_allclose(vectors, expected[text], rtol=0, atol=1e-5)
    for text, vectors in zip(QUERIES, client.embed_tokens(QUERIES, model=name, prompt_name="query"), strict=True):
        np.testing.assert_allclose(vectors, model.query(text).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LATE)
def test_ids_of_queries_have_the_vectors_of_the_text(client: Client, name: str) -> None:
    ids = client.tokenize(QUERIES, model=name, prompt_name="query")
    of_ids = client.embed_tokens(ids, model=name)
    for vectors, expected in zip(of_ids, client.embed_tokens(QUERIES, model=name, prompt_name="query"), strict=True):
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("name", LATE)
def test_scores_of_late_interaction_are_colberts(
    client: Client, colbert: Callable[[str], ColBert], name: str, query: str
) -> None:
    ranking = sorted(client.rerank(query, TEXTS, model=f"{name}-maxsim"))
    expected = {text: colbert(name).score(query, text) for text in set(TEXTS)}
    np.testing.assert_allclose(
        [place.score for place in ranking], [expected[text] for text in TEXTS], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("input_type", [None, "document", "query"])
def test_texts_go_through_the_chat_template_of_their_model(ask: Callable[..., Any], input_type: str | None) -> None:
    expected = golden()["checkpoints"]["chat"]["answers"]["query" if input_type == "query" else "plain"]
    answer = ask("/v1/embeddings", model="chat", input=SAVED_TEXTS, input_type=input_type)
    np.testing.assert_allclose([item["embedding"] for item in answer["data"]], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("instruction", "answer"), [(None, "scores"), ("lazy dog", "lazy")])
def test_pairs_go_through_the_chat_template_of_their_model(
    ask: Callable[..., Any], instruction: str | None, answer: str
) -> None:
    query, documents = SAVED_TEXTS[0], SAVED_TEXTS[:3]
    body = {"query": query, "documents": documents, "raw_scores": True, "instruction": instruction}
    ranking = ask("/v1/rerank", model="judge", **body)["results"]
    found = [each["relevance_score"] for each in sorted(ranking, key=lambda each: each["index"])]
    np.testing.assert_allclose(found, golden()["checkpoints"]["judge"]["answers"][answer], rtol=0, atol=1e-5)


@pytest.mark.parametrize("instruction", [None, "who or what { query }"])
def test_a_reranker_of_words_reads_its_template(
    client: Client, ask: Callable[..., Any], made: dict[str, Path], instruction: str | None
) -> None:
    tokenizer = head_checkpoints.tokenizer_of(made["words"])
    yes, no = map(tokenizer.token_to_id, ("yes", "no"))
    texts = [text for text in TEXTS if len(text) < 200]
    ranking = sorted(client.rerank("is it?", texts, model="words", raw_scores=True, instruction=instruction))
    body: dict[str, Any] = {"query": "is it?", "documents": texts, "raw_scores": True, "instruction": instruction}
    found = {place["index"]: place["relevance_score"] for place in ask("/v2/rerank", model="words", **body)["results"]}
    for place, text in zip(ranking, texts, strict=True):
        pair = framed("is it?", text, instruction or "does")
        logits = outputs(made["words"], "ForCausalLM", tokenizer.encode(pair).ids).logits[0, -1]
        assert place.score == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)
        assert found[place.index] == pytest.approx(place.score, abs=1e-6)


def test_a_document_that_is_too_long_leaves_the_template_whole(client: Client, made: dict[str, Path]) -> None:
    tokenizer = head_checkpoints.tokenizer_of(made["words"])
    yes, no = map(tokenizer.token_to_id, ("yes", "no"))
    (place,) = client.rerank("is it?", ["word " * 300], model="words", raw_scores=True)
    room = 128 - len(tokenizer.encode(framed("is it?", "")).ids)
    pair = framed("is it?", "word " * room)
    logits = outputs(made["words"], "ForCausalLM", tokenizer.encode(pair).ids).logits[0, -1]
    assert place.score == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)


@pytest.mark.parametrize("call", ["embed_sparse", "embed_tokens"])
def test_an_id_that_no_token_has_is_named_and_harms_no_other(client: Client, call: str) -> None:
    with pytest.raises(InvalidInputError, match=r"refused text\(s\) \[1\]"):
        getattr(client, call)(
            [[101, 2003, 102], [101, 10**6, 102], [101]], model={"embed_tokens": "m3-tokens"}.get(call)
        )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_scores_of_pairs_are_those_of_transformers(ask: Callable[..., Any], made: dict[str, Path], name: str) -> None:
    tokenizer = head_checkpoints.tokenizer_of(made[name])
    tokenizer.enable_truncation(128, strategy="only_second")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(made[name]).eval()
    scores = {place["index"]: place["relevance_score"] for place in reranked(ask, name, TEXTS)}
    for index, text in enumerate(TEXTS):
        pair = tokenizer.encode("is it?", text)
        segments = {"token_type_ids": torch.tensor([pair.type_ids])} if name == "bert-pairs" else {}
        with torch.inference_mode():
            expected = float(model(input_ids=torch.tensor([pair.ids]), **segments).logits[0, 0])
        assert scores[index] == pytest.approx(expected, abs=1e-5)


def reranked(ask: Callable[..., Any], model: str, documents: list[str]) -> Any:
    """By the gateway, with the scores that the model gives."""
    body = {"query": "is it?", "documents": documents, "raw_scores": True}
    return ask("/v1/rerank", model=model, **body)["results"]


@pytest.mark.parametrize("name", ["words", "m3", *LATE])
def test_the_gateway_ranks_as_the_client_does(ask: Callable[..., Any], client: Client, name: str) -> None:
    expected = client.rerank("is it?", TEXTS, model=name if name == "words" else f"{name}-maxsim", raw_scores=True)
    found = [(place["index"], place["relevance_score"]) for place in reranked(ask, name, TEXTS)]
    assert [index for index, _ in found] == [place.index for place in expected]
    np.testing.assert_allclose([score for _, score in found], [place.score for place in expected], atol=1e-6)


@pytest.mark.parametrize("name", ["splade", "m3"])
def test_the_gateway_weighs_words_as_the_client_does(ask: Callable[..., Any], client: Client, name: str) -> None:
    expected = client.embed_sparse(TEXTS, model="m3-sparse" if name == "m3" else name)
    answer = ask("/v1/embeddings", model=name, input=TEXTS, vector_type="sparse")
    for item, terms, vector in zip(
        answer["data"], ask("/embed_sparse", model=name, inputs=TEXTS), expected, strict=True
    ):
        assert item["embedding"]["indices"] == [term["index"] for term in terms] == vector.indices.tolist()
        np.testing.assert_allclose(item["embedding"]["values"], vector.values, atol=1e-6)
        np.testing.assert_allclose([term["value"] for term in terms], vector.values, atol=1e-6)


@pytest.mark.parametrize("name", ["m3", *LATE])
def test_the_gateway_gives_token_vectors_as_the_client_does(ask: Callable[..., Any], client: Client, name: str) -> None:
    expected = client.embed_tokens(TEXTS, model="m3-tokens" if name == "m3" else name)
    answer = ask("/v1/embeddings", model=name, input=TEXTS, vector_type="late")
    for item, vectors in zip(answer["data"], expected, strict=True):
        np.testing.assert_allclose(item["embedding"], vectors, atol=1e-6)


def test_texts_and_pairs_are_classified_as_by_transformers_pipeline(
    ask: Callable[..., Any], made: dict[str, Path]
) -> None:
    classify: Any = transformers.pipeline("text-classification", str(made["nli"]))
    pairs = [{"text": "is it?", "text_pair": text} for text in TEXTS]
    inputs = [*([text] for text in TEXTS), *(["is it?", text] for text in TEXTS)]
    found = ask("/predict", inputs=inputs, model="nli")
    for labels, each in zip(found, [*TEXTS, *pairs], strict=True):
        expected = classify(each, top_k=None, truncation=True, max_length=128)
        assert [label["label"] for label in labels] == [label["label"] for label in expected]
        np.testing.assert_allclose(
            [label["score"] for label in labels], [label["score"] for label in expected], rtol=0, atol=1e-5
        )


CHUNKS = ["A cat sat ", "on the mat", ". Größer, 日本語", " and 🐚! ", "It is late."]


def test_chunks_have_the_means_of_one_pass_over_their_document(
    ask: Callable[..., Any], client: Client, made: dict[str, Path]
) -> None:
    model: Any = SentenceTransformer(str(made["dense"]), device="cpu")
    tokenizer = head_checkpoints.tokenizer_of(made["dense"])
    encoding = tokenizer.encode("".join(CHUNKS))
    # Tokens by the characters that they stand for; the first and the last special token count for their neighbours.
    sizes = [len(tokenizer.encode(chunk, add_special_tokens=False).ids) for chunk in CHUNKS]
    ends = np.cumsum([1 + sizes[0], *sizes[1:-1], sizes[-1] + 1]).tolist()
    assert ends[-1] == len(encoding.ids)
    expected = []
    with torch.inference_mode():
        tokens = outputs(made["dense"], "", encoding.ids).last_hidden_state[0]
        for begin, end in pairwise((0, *ends)):
            features = {"sentence_embedding": tokens[begin:end].sum(dim=0)[None] / (end - begin)}
            for module in list(model)[2:]:
                features = module(features)
            expected.append(features["sentence_embedding"][0].numpy())
    np.testing.assert_allclose(client.embed_chunks(CHUNKS, model="dense-chunks").vectors, expected, rtol=0, atol=1e-5)
    told = ask("/v1/embeddings", model="dense", input=CHUNKS, late_chunking=True)
    np.testing.assert_allclose([item["embedding"] for item in told["data"]], expected, rtol=0, atol=1e-5)
    assert told["usage"]["total_tokens"] == len(encoding.ids)


def test_documents_in_chunks_are_merged_and_equal_each_alone(client: Client) -> None:
    documents = [CHUNKS[:count] for count in (1, 2, 3, 4, 5)] * 4
    alone = [client.embed_chunks(chunks, model="dense-chunks").vectors for chunks in documents[:5]]
    with ThreadPoolExecutor(8) as pool:
        merged = list(pool.map(lambda chunks: client.embed_chunks(chunks, model="dense-chunks").vectors, documents))
    for found, expected in zip(merged, alone * 4, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(alone[0], client.embed(CHUNKS[:1], model="dense"), rtol=0, atol=1e-6)


def test_prompts_are_read_and_not_pooled_where_the_authors_leave_them_out(
    ask: Callable[..., Any], client: Client, made: dict[str, Path]
) -> None:
    model = SentenceTransformer(str(made["instructor"]), device="cpu")
    for name in ("query", "title"):
        expected = [model.encode(text, prompt_name=name) for text in TEXTS]
        for options in ({"prompt_name": name}, {"prompt": model.prompts[name]}):
            found = client.embed(TEXTS, model="instructor", **options)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        told = ask("/v1/embeddings", model="instructor", input=TEXTS, prompt_name=name)
        np.testing.assert_allclose([item["embedding"] for item in told["data"]], expected, rtol=0, atol=1e-5)
        assert told["usage"]["prompt_tokens"] == sum(
            map(len, client.tokenize(TEXTS, model="instructor", prompt_name=name))
        )
    bare = [model.encode(text, prompt="") for text in TEXTS]
    np.testing.assert_allclose(client.embed(TEXTS, model="instructor", prompt=""), bare, rtol=0, atol=1e-5)
