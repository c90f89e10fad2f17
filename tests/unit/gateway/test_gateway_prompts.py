"""Which of a model's prompts a caller's word for its texts means, for models as their authors publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conch_gateway.backends.prompts import PROMPT_NAMES, Prompt, choose_prompt
from conch_gateway.errors import InvalidValueError
from conch_gateway.jobs import InputType

from tests.unit.gateway.conftest import model_info

if TYPE_CHECKING:
    import httpx

    from tests.unit.gateway.conftest import StandIn

E5 = {"query": "query: ", "passage": "passage: "}
NOMIC = dict.fromkeys(("search_query", "search_document", "classification", "clustering"), "...")
JINA = dict.fromkeys(("retrieval.query", "retrieval.passage", "separation", "text-matching"), "...")
QWEN = {"query": "Instruct: ...", "document": ""}
GEMMA = dict.fromkeys(("query", "document", "Clustering", "STS"), "...")


@pytest.mark.parametrize(
    ("prompts", "input_type", "name"),
    [
        pytest.param(E5, "query", "query", id="e5 query"),
        pytest.param(E5, "document", "passage", id="e5 document"),
        pytest.param(E5, "search_document", "passage", id="e5 asked as Cohere"),
        pytest.param(NOMIC, "query", "search_query", id="nomic query"),
        pytest.param(NOMIC, "retrieval.passage", "search_document", id="nomic asked as Jina"),
        pytest.param(NOMIC, "clustering", "clustering", id="nomic clustering"),
        pytest.param(JINA, "query", "retrieval.query", id="Jina query"),
        pytest.param(JINA, "clustering", "separation", id="Jina clustering"),
        pytest.param(JINA, "text-matching", "text-matching", id="Jina matching"),
        pytest.param(QWEN, "search_query", "query", id="Qwen3 asked as Cohere"),
        pytest.param(QWEN, "passage", "document", id="Qwen3 passage"),
        pytest.param(GEMMA, "clustering", "Clustering", id="EmbeddingGemma clustering"),
        pytest.param(GEMMA, "code.query", "query", id="code without a prompt of its own"),
        pytest.param({}, "query", None, id="a model without prompts"),
        pytest.param(E5, "clustering", None, id="no prompt for it"),
        pytest.param(E5, None, None, id="nothing said"),
    ],
)
def test_the_models_prompt_for_a_kind_of_input(
    prompts: dict[str, str], input_type: InputType, name: str | None
) -> None:
    info = model_info("model", "embedding", prompts=prompts)

    assert choose_prompt(info, None, input_type) == Prompt(None, name)


def test_a_name_wins() -> None:
    info = model_info("model", "embedding", prompts=E5)

    assert choose_prompt(info, "passage", "query").prompt_name == "passage"


def test_a_passage_gets_no_querys_prompt_although_it_is_the_default() -> None:
    info = model_info("model", "embedding", prompts={"query": "q: "}, default_prompt_name="query")

    assert choose_prompt(info, None, "passage") == Prompt("", None)


def test_a_passage_gets_the_words_that_stand_before_every_text() -> None:
    prompts = {"query": "[q]", "plain": "[]"}
    info = model_info("model", "embedding", prompts=prompts, default_prompt_name="query")

    assert choose_prompt(info, None, "passage") == Prompt(None, "plain")


def test_a_default_without_a_purpose_applies_to_all() -> None:
    info = model_info("model", "embedding", prompts={"general": "g: "}, default_prompt_name="general")

    assert choose_prompt(info, None, "passage") == Prompt(None, None)


def test_every_word_has_its_prompts() -> None:
    assert set(InputType.__args__) == set(PROMPT_NAMES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("input_type", [None, "query", "search_query"])
@pytest.mark.parametrize("ending", ["Query:", "Query: "])
def test_an_instruction_takes_the_place_of_the_prompts_own(input_type: InputType | None, ending: str) -> None:
    info = model_info("m", "embedding", prompts={"query": f"Instruct: Find\nanswers.\n{ending}", "document": ""})
    assert choose_prompt(info, None, input_type, "Find code.") == Prompt(f"Instruct: Find code.\n{ending}", None)
    assert choose_prompt(info, "query", None, "") == Prompt(f"Instruct: \n{ending}", None)


@pytest.mark.parametrize(
    ("prompts", "name", "input_type"),
    [
        ({"query": "Instruct: Find answers.\nQuery:", "document": ""}, None, "document"),
        ({"query": "query: "}, None, "query"),
        ({"query": "Instruct: Find answers.\nQuery:", "sts": "sts: "}, "sts", None),
        ({}, None, None),
    ],
    ids=["a document", "a prompt without one", "another prompt", "no prompt"],
)
def test_an_instruction_without_a_place_is_refused_by_name(
    prompts: dict[str, str], name: str | None, input_type: InputType | None
) -> None:
    with pytest.raises(InvalidValueError, match="instruction: the model's prompt for such texts has no instruction"):
        choose_prompt(model_info("m", "embedding", prompts=prompts), name, input_type, "Find code.")


async def test_a_request_may_bring_its_instruction(http: httpx.AsyncClient, client: StandIn) -> None:
    client.served[0] = model_info("letters", "embedding", prompts={"query": "Instruct: Find answers.\nQuery:"})
    body = {"model": "letters", "input": ["ab"], "instruction": "Find code."}
    answer = await http.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert client.calls[0][1]["prompt"] == "Instruct: Find code.\nQuery:"
    refused = await http.post("/v1/embeddings", json={**body, "input": [[1, 2]]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "instruction")


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Find."},
        {"instruct": "Find."},
        {"chat_template_kwargs": {"instruction": "Find."}},
        {"chat_template_kwargs": {"instruct": "Find."}},
        {"instruction": "Find.", "chat_template_kwargs": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/score", {"text_1": "a", "text_2": ["b"]}),
    ],
    ids=["rerank", "score"],
)
async def test_rerankers_get_the_instruction_of_every_dialect(
    http: httpx.AsyncClient, client: StandIn, path: str, body: dict[str, object], fields: dict[str, object]
) -> None:
    assert (await http.post(path, json={**body, **fields})).status_code == 200
    assert client.calls[-1][1]["instruction"] == "Find."


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, 422),
        ({"chat_template_kwargs": "Find."}, 422),
        ({"chat_template_kwargs": {"instruct": "a" * 4097}}, 400),
        ({"instruction": "a", "instruct": "b"}, 400),
        ({"instruction": "a" * 4097}, 400),
    ],
    ids=["another argument", "no arguments", "a book as an argument", "two instructions", "a book"],
)
async def test_arguments_that_no_template_here_takes_are_refused(
    http: httpx.AsyncClient, fields: dict[str, object], status: int
) -> None:
    response = await http.post("/v1/rerank", json={"query": "a", "documents": ["b"], **fields})
    assert (response.status_code, next(iter(fields)) in response.text) == (status, True)


async def test_an_instruction_by_both_names_is_refused(http: httpx.AsyncClient) -> None:
    both = {"instruction": "Find.", "instruct": "Seek."}
    body = {"query": "a", "documents": ["b"], "chat_template_kwargs": both}
    answer = await http.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    assert "one of instruction and instruct" in answer.text
