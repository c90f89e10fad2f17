"""Pages get the tokens, vectors and rankings that the server gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_client import InvalidInputError

from tests.web import texts

if TYPE_CHECKING:
    from conch_client import Client
    from numpy.typing import NDArray

    from tests.web.conftest import Page

    Floats = NDArray[np.float32]

TEXTS = texts.mixed(200, 256)
SHORT = ["a cat", "größer, 日本語 and 🐚!", "x", "to be or not to be? " * 40, "Paris is the capital of France."]
QUERIES = ["where is the cat?", "a query that is far too long for what the model takes of a query " * 4]
EMBED = "return numbers(await model.embed(...argument));"


def vectors(page: Page, model: str, inputs: list[str], **options: Any) -> Floats:
    return np.array(page.ask(model, EMBED, [inputs, options]), np.float32)


def cosines(found: Floats, expected: Floats) -> Floats:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray((found * expected).sum(axis=1) / lengths)


def test_every_text_has_the_tokens_of_the_server(page: Page, server: Client) -> None:
    inputs = [*TEXTS, *texts.every_script()]
    found = page.ask("all-minilm-l6-v2-int8", "return await model.tokenize(argument);", inputs)
    expected = server.tokenize(inputs, model="all-minilm-l6-v2-int8")
    assert max(map(len, expected)) == 256
    assert [text for text, ids, wanted in zip(inputs, found, expected, strict=True) if ids != wanted] == []


def test_vectors_in_fp32_are_those_of_the_server(page: Page, server: Client) -> None:
    expected = server.embed(TEXTS, model="all-minilm-l6-v2")
    np.testing.assert_allclose(vectors(page, "all-minilm-l6-v2", TEXTS), expected, rtol=0, atol=1e-4)


def test_vectors_in_int8_point_where_those_of_the_server_do(page: Page, server: Client) -> None:
    expected = server.embed(TEXTS, model="all-minilm-l6-v2-int8")
    assert cosines(vectors(page, "all-minilm-l6-v2-int8", TEXTS), expected).min() >= 0.999


def test_a_vector_does_not_depend_on_the_other_texts(page: Page) -> None:
    together = vectors(page, "all-minilm-l6-v2-int8", SHORT)
    calls = "const found = []; for (const text of argument) found.push(await model.embed(text)); return numbers(found);"
    alone = np.array(page.ask("all-minilm-l6-v2-int8", calls, SHORT), np.float32)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("model", ["jina_bert-fp32", "static", "instructor", "matryoshka", "unnormalised"])
def test_every_kind_of_embedding_model_answers_as_on_the_server(page: Page, server: Client, model: str) -> None:
    np.testing.assert_allclose(vectors(page, model, SHORT), server.embed(SHORT, model=model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["matryoshka", "instructor"])
@pytest.mark.parametrize("chosen", [{"prompt_name": "query"}, {"prompt": "of my own: "}, {"prompt": ""}], ids=str)
def test_prompts_are_those_of_the_server(page: Page, server: Client, model: str, chosen: dict[str, Any]) -> None:
    renamed = {"promptName" if name == "prompt_name" else name: text for name, text in chosen.items()}
    expected = server.embed(SHORT, model=model, **chosen)
    np.testing.assert_allclose(vectors(page, model, SHORT, **renamed), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("end", ["end", "start"])
def test_texts_are_cut_as_on_the_server(page: Page, server: Client, end: Any) -> None:
    expected = server.embed(SHORT, model="matryoshka", truncate=end)
    np.testing.assert_allclose(vectors(page, "matryoshka", SHORT, truncate=end), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dimensions", [16, 32, 48])
def test_shorter_vectors_are_those_of_the_server_and_in_its_space(page: Page, server: Client, dimensions: int) -> None:
    calls = "return [numbers(await model.embed(...argument)), model.spaceOf(argument[1])];"
    found, space = page.ask("matryoshka", calls, [SHORT, {"dimensions": dimensions}])
    expected = server.embed(SHORT, model="matryoshka", dimensions=dimensions, expect_space=space)
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "reranker"),
    [
        ("all-minilm-l6-v2", "all-minilm-l6-v2-maxsim"),
        ("colbert", "colbert-maxsim"),
        ("unfilled", "unfilled-maxsim"),
        ("tiny-cross-encoder", "tiny-cross-encoder"),
    ],
)
def test_documents_are_ranked_as_on_the_server(page: Page, server: Client, model: str, reranker: str) -> None:
    documents = [*TEXTS[100:130], *SHORT]
    calls = """const found = [];
        for (const query of argument[0]) found.push(await model.rerank(query, argument[1], {rawScores: true}));
        return found;"""
    for query, ranking in zip(QUERIES, page.ask(model, calls, [QUERIES, documents]), strict=True):
        expected = server.rerank(query, documents, model=reranker, raw_scores=True)
        scores = {place["index"]: place["score"] for place in ranking}
        np.testing.assert_allclose(
            [scores[place.index] for place in expected], [place.score for place in expected], rtol=0, atol=1e-4
        )
        assert [place["score"] for place in ranking] == sorted(scores.values(), reverse=True)


def test_pairs_are_read_within_their_authors_words_and_instruction(page: Page, server: Client) -> None:
    calls = "return await model.rerank(...argument);"
    instructions: tuple[dict[str, Any], ...] = ({}, {"instruction": "is the sky"})
    for chosen in instructions:
        (best, *_) = page.ask("words", calls, ["where?", ["a cat", "the dog"], {**chosen, "topN": 1}])
        expected = server.rerank("where?", ["a cat", "the dog"], model="words", top_n=1, **chosen)
        assert best["index"] == expected[0].index
        assert best["score"] == pytest.approx(expected[0].score, abs=1e-4)


def test_what_it_says_of_itself_is_what_the_server_says(page: Page, server: Client) -> None:
    calls = "return [model.name, model.dimension, model.maxLength, model.spaceId, model.prompts.toSorted()];"
    for name in ("all-minilm-l6-v2-int8", "matryoshka"):
        info = server.model(name)
        said = [info.name, info.dimension, info.max_length, info.space_id, sorted(info.prompts)]
        assert page.ask(name, calls) == said


def test_a_page_of_the_gateway_computes_on_several_threads_where_there_are_cores(page: Page) -> None:
    threads, cores = page.ask("matryoshka", "return [model.threads, navigator.hardwareConcurrency];")
    assert threads == min(4, cores)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ("await model.embed([])", "texts is empty; give at least one"),
        ("await model.embed(['a', 3])", "texts[1] must be a text"),
        ("await model.embed('\\ud800')", "lone surrogate"),
        ("await model.embed('a', {dimensions: 17.5})", "dimensions must be an integer"),
        ("await model.embed('a', {dimensions: 99})", "dimensions must be at most 48"),
        ("await model.embed('a', {promptName: 'none'})", "it has: passage, query"),
        ("await model.embed('a b '.repeat(99), {truncate: 'none'})", "shorten it, or pass truncate"),
        ("await model.embed('a', {expectSpace: 'another'})", "vectors of different spaces cannot be compared"),
        ("await model.rerank('a', ['b'])", "no model here ranks documents"),
    ],
)
def test_a_wrong_argument_is_named_and_the_model_still_answers(page: Page, calls: str, message: str) -> None:
    calls = f"try {{ {calls} }} catch (error) {{ return [error.message, (await model.embed('a')).length]; }}"
    said, numbers = page.ask("matryoshka", calls)
    assert message in said
    assert numbers == 48


def test_what_no_token_may_be_cut_of_is_refused_as_on_the_server(page: Page, server: Client) -> None:
    calls = """try { await model.embed(argument, {truncate: "none"}); }
        catch (error) { return [error.message, error.indices]; }"""
    said, indices = page.ask("matryoshka", calls, SHORT)
    with pytest.raises(InvalidInputError) as refused:
        server.embed(SHORT, model="matryoshka", truncate="none")
    assert indices == list(refused.value.indices)
    assert said.split(";")[0] == str(refused.value).split(";")[0]
