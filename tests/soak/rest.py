"""Questions to the REST gateway in every dialect, each with the check of its answer."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.soak.checks import expected_scores, has_type, openai_vectors, ordered, ranked, same_terms
from tests.soak.known import Known, WrongAnswerError, agree, same
from tests.soak.models import ALIAS, DENSE, MAXSIM, PAIRS, SPARSE
from tests.soak.texts import QUERIES, short, some

Json = Any
Check = Callable[[Json], None]


@dataclass(frozen=True)
class Question:
    """A POST of `body` to `path`, and what has to be true of the answer."""

    path: str
    body: dict[str, Any]
    check: Check


Asking = Callable[[Known, random.Random], Question]


# Dense vectors, as numbers of any type.


def openai_float(known: Known, chance: random.Random) -> Question:
    places = some(chance)
    body = {"model": DENSE, "input": [known.texts[place] for place in places]}

    def check(answer: Json) -> None:
        openai_vectors(known, places, answer, lambda item: item)

    return Question("/v1/embeddings", body, check)


def openai_base64(known: Known, chance: random.Random) -> Question:
    places = some(chance)
    texts = [known.texts[place] for place in places]
    body = {"model": ALIAS, "input": texts, "encoding_format": "base64"}

    def check(answer: Json) -> None:
        openai_vectors(known, places, answer, lambda item: np.frombuffer(base64.b64decode(item), "<f4"))

    return Question("/v1/embeddings", body, check)


def openai_token_ids(known: Known, chance: random.Random) -> Question:
    places = some(chance)
    body = {"model": DENSE, "input": [known.ids[place] for place in places]}

    def check(answer: Json) -> None:
        openai_vectors(known, places, answer, lambda item: item)

    return Question("/v1/embeddings", body, check)


def _of_type(field: str, number_type: str, **more: Any) -> Asking:
    """Vectors of `/v1/embeddings` whose numbers are of a type that this field asks for."""

    def ask(known: Known, chance: random.Random) -> Question:
        places = some(chance)
        body = {"model": DENSE, "input": [known.texts[place] for place in places], field: number_type, **more}

        def check(answer: Json) -> None:
            for place, item in zip(places, ordered(answer["data"], len(places)), strict=True):
                has_type(item["embedding"], known.dense[place], number_type)

        return Question("/v1/embeddings", body, check)

    return ask


def cohere_embed(known: Known, chance: random.Random) -> Question:
    places = some(chance)
    types = ["float", "int8", "uint8", "binary", "ubinary"]
    texts = [known.texts[place] for place in places]
    body = {"model": DENSE, "input_type": "search_document", "texts": texts, "embedding_types": types}

    def check(answer: Json) -> None:
        for number_type in types:
            agree(len(answer["embeddings"][number_type]), len(places), f"vectors of {number_type}")
            for place, found in zip(places, answer["embeddings"][number_type], strict=True):
                has_type(found, known.dense[place], number_type)

    return Question("/v2/embed", body, check)


def _listed(path: str, texts_field: str, vectors_field: str | None) -> Asking:
    """Vectors that are answered as a plain list, in a field or by itself."""

    def ask(known: Known, chance: random.Random) -> Question:
        places = some(chance)
        body = {"model": DENSE, texts_field: [known.texts[place] for place in places]}

        def check(answer: Json) -> None:
            same(answer[vectors_field] if vectors_field else answer, known.dense[places], path)

        return Question(path, body, check)

    return ask


def ollama_embeddings(known: Known, chance: random.Random) -> Question:
    (place,) = some(chance, most=1)

    def check(answer: Json) -> None:
        same(answer["embedding"], known.dense[place], "embedding")

    return Question("/api/embeddings", {"model": DENSE, "prompt": known.texts[place]}, check)


def vllm_pooling(known: Known, chance: random.Random) -> Question:
    places = some(chance)

    def check(answer: Json) -> None:
        for place, item in zip(places, ordered(answer["data"], len(places)), strict=True):
            same(item["data"], known.dense[place], "pooled vector")

    return Question("/pooling", {"model": DENSE, "input": [known.texts[place] for place in places]}, check)


def tei_similarity(known: Known, chance: random.Random) -> Question:
    source, *others = short(chance, most=4) + short(chance, most=1)
    sentences = {"source_sentence": known.texts[source], "sentences": [known.texts[place] for place in others]}

    def check(answer: Json) -> None:
        same(answer, known.dense[others] @ known.dense[source], "similarities")

    return Question("/similarity", {"model": DENSE, "inputs": sentences}, check)


# Token vectors, sparse vectors, tokens.


def late(known: Known, chance: random.Random) -> Question:
    places = short(chance, most=2)
    body = {"model": DENSE, "input": [known.texts[place] for place in places], "vector_type": "late"}

    def check(answer: Json) -> None:
        for place, item in zip(places, ordered(answer["data"], len(places)), strict=True):
            same(item["embedding"], known.late(place), "token vectors")

    return Question("/v1/embeddings", body, check)


def tei_embed_all(known: Known, chance: random.Random) -> Question:
    places = short(chance, most=2)

    def check(answer: Json) -> None:
        agree(len(answer), len(places), "texts")
        for place, vectors in zip(places, answer, strict=True):
            same(vectors, known.tokens[place], "token vectors")

    return Question("/embed_all", {"model": DENSE, "inputs": [known.texts[place] for place in places]}, check)


def sparse(known: Known, chance: random.Random) -> Question:
    places = short(chance, most=2)
    body = {"model": SPARSE, "input": [known.texts[place] for place in places], "vector_type": "sparse"}

    def check(answer: Json) -> None:
        for place, item in zip(places, ordered(answer["data"], len(places)), strict=True):
            vector = item["embedding"]
            same_terms(dict(zip(vector["indices"], vector["values"], strict=True)), known.sparse[place])

    return Question("/v1/embeddings", body, check)


def tei_embed_sparse(known: Known, chance: random.Random) -> Question:
    places = short(chance, most=2)

    def check(answer: Json) -> None:
        agree(len(answer), len(places), "texts")
        for place, terms in zip(places, answer, strict=True):
            same_terms({term["index"]: term["value"] for term in terms}, known.sparse[place])

    return Question("/embed_sparse", {"model": SPARSE, "inputs": [known.texts[place] for place in places]}, check)


def tei_tokenize(known: Known, chance: random.Random) -> Question:
    places = short(chance)

    def check(answer: Json) -> None:
        agree([[token["id"] for token in row] for row in answer], [known.ids[place] for place in places], "token ids")

    return Question("/tokenize", {"model": DENSE, "inputs": [known.texts[place] for place in places]}, check)


# Rankings: by late interaction and by a cross-encoder.


def _ranking(path: str, model: str, texts_field: str, *, raw: bool = True, **more: Any) -> Asking:
    """A ranking as Cohere, Jina, Voyage and text-embeddings-inference answer it."""

    def ask(known: Known, chance: random.Random) -> Question:
        query, documents = chance.choice(QUERIES), short(chance, most=5)
        body = {
            "model": model,
            "query": known.texts[query],
            texts_field: [known.texts[place] for place in documents],
            **({"raw_scores": True} if raw and model == PAIRS else {}),
            **more,
        }

        def check(answer: Json) -> None:
            results = answer if isinstance(answer, list) else answer["results"]
            scores = expected_scores(known, model, query, documents, raw=raw)
            ranked(results, scores, "score" if isinstance(answer, list) else "relevance_score", more.get("top_n"))

        return Question(path, body, check)

    return ask


def nim_ranking(known: Known, chance: random.Random) -> Question:
    query, documents = chance.choice(QUERIES), short(chance, most=5)
    body = {
        "model": PAIRS,
        "query": {"text": known.texts[query]},
        "passages": [{"text": known.texts[place]} for place in documents],
    }

    def check(answer: Json) -> None:
        ranked(answer["rankings"], expected_scores(known, PAIRS, query, documents), "logit")

    return Question("/v1/ranking", body, check)


def vllm_score(known: Known, chance: random.Random) -> Question:
    query, documents = chance.choice(QUERIES), short(chance, most=5)
    body = {"model": MAXSIM, "text_1": known.texts[query], "text_2": [known.texts[place] for place in documents]}

    def check(answer: Json) -> None:
        found = [item["score"] for item in ordered(answer["data"], len(documents))]
        same(found, list(expected_scores(known, MAXSIM, query, documents).values()), "scores")

    return Question("/v1/score", body, check)


def refused(known: Known, chance: random.Random) -> Question:
    """A text that is none, which must be refused beside whatever else is computed; see `REFUSED`."""
    return Question("/v1/embeddings", {"model": DENSE, "input": chance.choice([7, {}, [[]], [1.5]])}, _never)


REFUSED = (400, 422)


def _never(_: Json) -> None:
    raise WrongAnswerError("an input that is none was answered")


ASKINGS: dict[str, Asking] = {
    "OpenAI, float": openai_float,
    "OpenAI, base64, by alias": openai_base64,
    "OpenAI, token ids": openai_token_ids,
    "OpenAI, refused input": refused,
    "Jina, binary": _of_type("embedding_type", "binary", task="retrieval.passage"),
    "Voyage, int8": _of_type("output_dtype", "int8", input_type="document"),
    "Voyage, ubinary": _of_type("output_dtype", "ubinary", input_type="query"),
    "NIM, uint8": _of_type("embedding_type", "uint8", input_type="passage"),
    "Cohere v2, all types": cohere_embed,
    "Cohere v1": _listed("/v1/embed", "texts", "embeddings"),
    "TEI /embed": _listed("/embed", "inputs", None),
    "TEI /embed_all": tei_embed_all,
    "TEI /embed_sparse": tei_embed_sparse,
    "TEI /similarity": tei_similarity,
    "TEI /tokenize": tei_tokenize,
    "TEI /rerank, late interaction": _ranking("/rerank", MAXSIM, "texts"),
    "Ollama /api/embed": _listed("/api/embed", "input", "embeddings"),
    "Ollama /api/embeddings": ollama_embeddings,
    "vLLM /pooling": vllm_pooling,
    "vLLM /v1/score": vllm_score,
    "vLLM /rerank, cross-encoder": _ranking("/rerank", PAIRS, "documents", raw=False),
    "NIM /v1/ranking, cross-encoder": nim_ranking,
    "Cohere /v2/rerank, late interaction": _ranking("/v2/rerank", MAXSIM, "documents", top_n=3),
    "Jina /v1/rerank, cross-encoder": _ranking("/v1/rerank", PAIRS, "documents"),
    "token vectors": late,
    "sparse vectors": sparse,
}
"""How to ask, by the name of the surface."""
