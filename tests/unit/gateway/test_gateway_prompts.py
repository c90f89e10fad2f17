"""Which of a model's prompts a caller's word for its texts means, for models as their authors publish them."""

from __future__ import annotations

import pytest
from conch_gateway.backends.prompts import PROMPT_NAMES, Prompt, choose_prompt
from conch_gateway.jobs import InputType

from tests.unit.gateway.conftest import model_info

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


def test_a_default_without_a_purpose_applies_to_all() -> None:
    info = model_info("model", "embedding", prompts={"general": "g: "}, default_prompt_name="general")

    assert choose_prompt(info, None, "passage") == Prompt(None, None)


def test_every_word_has_its_prompts() -> None:
    assert set(InputType.__args__) == set(PROMPT_NAMES)  # type: ignore[attr-defined]
