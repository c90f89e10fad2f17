"""What an export writes is what clients read back, and errors keep naming the caller's own inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conch_contract import (
    DescriptionError,
    Interaction,
    InvalidInputError,
    ModelInfo,
    Task,
    bridge_name,
    is_bridge_name,
)

RULES = Interaction(1, 2, 32, 180, augmentation=103, attends_to_augmentation=False, skip_list=(5, 6))
EMBEDDING = ModelInfo(
    name="letters",
    task=Task.EMBEDDING,
    max_length=512,
    max_rows=64,
    inputs=("input_ids", "attention_mask"),
    output="embedding",
    tokenizer="letters.tokenizer",
    tokenizer_sha256="0" * 64,
    tokenizer_bytes=7,
    dimension=8,
    pooling="mean",
    normalized=True,
    prompts={"query": "Frage: ", "größe": "ü"},
    default_prompt_name="query",
    matryoshka_dimensions=(4, 8),
    matryoshka_centred=True,
    similarity="cosine",
)
OTHERS: dict[str, dict[str, Any]] = {
    "derived": {"task": Task.SPARSE, "base": "letters", "dimension": 30522},
    "bridge": {
        "task": Task.EMBEDDING,
        "base": "letters",
        "dimension": 4,
        "bridge_sha256": "1" * 64,
        "bridges_to": "0123456789abcdef",
    },
    "without first tokens": {"task": Task.MULTI_VECTOR, "base": "letters", "dimension": 128, "skips_first": True},
    "multi-vector": {"task": Task.MULTI_VECTOR, "interaction": RULES, "dimension": 128, "normalized": True},
    "late-interaction": {"task": Task.LATE_INTERACTION, "interaction": RULES},
    "cross-encoder": {"task": Task.CROSS_ENCODER, "pair_template": "<{query}|{document}>", "code_sha256": "1" * 64},
    "classification": {"task": Task.CLASSIFICATION, "labels": ("größer", "kleiner"), "activation": "softmax"},
    "instructed": {
        "task": Task.CROSS_ENCODER,
        "pair_template": "{instruction}: {query} {document}",
        "default_instruction": "find",
    },
    "prompted": {"task": Task.CROSS_ENCODER, "prompts": {"web": "Find: "}, "default_prompt_name": "web"},
}


def plain(**changes: Any) -> ModelInfo:
    facts = {name: value for name, value in vars(EMBEDDING).items() if name in {*REQUIRED, "name"}}
    return ModelInfo(**{**facts, **changes})


REQUIRED = ("max_length", "max_rows", "inputs", "output", "tokenizer", "tokenizer_sha256", "tokenizer_bytes")


def read(info: ModelInfo, **changes: str) -> ModelInfo:
    return ModelInfo.from_parameters(
        info.name,
        {**info.to_parameters(), **changes},
        inputs=info.inputs,
        output=info.output,
        max_rows=info.max_rows,
    )


@pytest.mark.parametrize("info", [EMBEDDING, *(plain(**changes) for changes in OTHERS.values())], ids=lambda i: i.task)
def test_what_was_written_is_read_back(info: ModelInfo) -> None:
    assert read(info) == info


def test_rerankers_say_nothing_of_vectors() -> None:
    stated = plain(task=Task.LATE_INTERACTION).to_parameters()
    assert not {"dimension", "pooling", "normalize", "prompts", "pair_template"} & set(stated)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conch_format": "2"}, "repository format 2; this client reads 1"),
        ({"task": "painting"}, "describes itself wrongly.*painting.*export it again"),
        ({"max_length": "many"}, "describes itself wrongly.*many"),
        ({"pair_template": "{query} alone"}, "pair_template"),
        ({"interaction": "[]"}, "describes itself wrongly"),
        ({"prompts": "7"}, "describes itself wrongly"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_export_writes_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        read(EMBEDDING, **changes)


def test_unknown_inputs_are_refused() -> None:
    with pytest.raises(DescriptionError, match="pixels"):
        read(replace(EMBEDDING, inputs=("pixels",)))


@pytest.mark.parametrize("task", list(Task))
def test_a_task_is_its_spelling_wherever_it_is_used(task: Task) -> None:
    assert task == task.value
    assert f"{task}" == str(task) == task.value
    assert hash(task) == hash(str(task))


def test_an_error_names_the_callers_own_inputs() -> None:
    one = InvalidInputError("texts[1] is no text", indices=(1,)).moved([4, 7])
    assert (str(one), one.indices) == ("texts[7] is no text", (7,))
    several = InvalidInputError("letters refused texts [0, 2]: 3 [0]", indices=(0, 2)).moved([5, 6, 9])
    assert (str(several), several.indices) == ("letters refused texts [5, 9]: 3 [0]", (5, 9))


def test_an_error_about_no_item_stays_as_it_is() -> None:
    error = InvalidInputError("truncate must be 'end', not [3]").moved([5, 6, 9])
    assert (str(error), error.indices) == ("truncate must be 'end', not [3]", ())


def test_queries_are_augmented_and_documents_compared_without_the_skip_list() -> None:
    rules = replace(RULES, query_length=6)
    assert (rules.room(query=True), rules.room(query=False)) == (5, 179)
    query, document = rules.row([101, 9, 102], query=True), rules.row([101, 5, 9, 102], query=False)
    assert (query, rules.masked(query)) == ([101, 1, 9, 102, 103, 103], 2)
    assert (document, rules.masked(document)) == ([101, 2, 5, 9, 102], 0)


def test_a_bridge_is_known_by_its_name() -> None:
    assert bridge_name("new", "old") == "new-as-old"
    assert is_bridge_name("new-as-old", "new")
    assert not is_bridge_name("new-as-old", "new-as")
    assert not is_bridge_name("news-as-old", "new")
