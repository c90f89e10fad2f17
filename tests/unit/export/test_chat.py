"""Texts that go through a chat template: what stands around them, and which templates are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, SourceError, Task, UndecidedError, UnsupportedError
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.model.description import GenerativeReranker
from tokenizers import Tokenizer

from tests.unit.export.conftest import MODULES, config, put, tokenizer_settings, without

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], Any]

TALK = (
    "{% if messages[0].role == 'system' %}<s>{{ messages[0].content }} {% endif %}"
    "<u>{{ messages[-1].content }}<e>{% if add_generation_prompt %} a b{% endif %}"
)
PAIR = "<s>{% for message in messages %}{{ '<u>' + message.content }}{% endfor %}<e>"
VOCABULARY = {"?": 0, "<s>": 1, "<u>": 2, "<e>": 3, "a": 4, "b": 5, "yes": 6, "no": 7}
ADDED = [
    {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    | {"special": True}
    for token, number in VOCABULARY.items()
    if "<" in token
]
SPECIAL = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}


def talks(template: str, *, options: dict[str, Any] | None = None, **message: str) -> list[Change]:
    """A checkpoint whose texts go through a template; its tokenizer puts `<s>` before every text."""
    tokenizer = {
        "version": "1.0",
        "added_tokens": ADDED,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": SPECIAL,
        "model": {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "?"},
    }
    modality = {
        "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat", **message}
    }
    chat = {"chat_template": {"add_generation_prompt": True} if options is None else options}
    settings = {"modality_config": modality, "processing_kwargs": chat}
    return [
        put("tokenizer.json", tokenizer),
        put("sentence_bert_config.json", settings),
        put("chat_template.jinja", template),
    ]


def ids(folder: Path, text: str) -> list[int]:
    served = Tokenizer.from_str(Checkpoint(folder).tokenizer.decode())
    found: list[int] = served.encode(text).ids
    return found


def test_what_is_before_a_text_becomes_a_prompt_and_what_is_behind_it_ends_every_row(
    read: Callable[..., Description], tmp_path: Path
) -> None:
    description = read(*talks(TALK), prompts={"query": "a", "document": ""})
    assert description.prompts == {"plain": "<u>", "query": "<s>a <u>", "document": "<u>"}
    assert description.default_prompt_name == "plain"
    assert ids(tmp_path, "<s>a <u>b") == [1, 4, 2, 5, 3, 4, 5]


def test_a_processor_adds_special_tokens_and_a_tokenizer_does_not(
    read: Callable[..., Description], tmp_path: Path
) -> None:
    read(*talks(TALK), put("preprocessor_config.json", {}))
    assert ids(tmp_path, "<u>b") == [1, 2, 5, 3, 4, 5]
    read(*talks(TALK), put(*tokenizer_settings(bos_token="<u>")))
    assert ids(tmp_path, "<u>b") == [2, 5, 3, 4, 5], "the conversation begins with one"


def test_a_text_is_cut_before_what_ends_its_conversation(read: Callable[..., Description], tmp_path: Path) -> None:
    read(*talks(TALK))
    served = Tokenizer.from_str(Checkpoint(tmp_path).tokenizer.decode())
    served.enable_truncation(6)
    assert served.encode("<u>b b b b b b").ids == [2, 5, 5, 3, 4, 5]


SCORES = [
    put("modules.json", [MODULES[0], {"idx": 1, "name": "1", "path": "1_LogitScore", "type": "x.LogitScore"}]),
    put("1_LogitScore/config.json", {"true_token_id": 6, "false_token_id": 7}),
]


def test_a_pair_is_read_in_the_template_and_the_instruction_in_its_place(read: Callable[..., Description]) -> None:
    stated = {"model_type": "CrossEncoder", "prompts": {"rank": "find"}, "default_prompt_name": "rank"}
    named = put("config_sentence_transformers.json", stated)
    description = read(*talks(PAIR), *SCORES, named)
    assert isinstance(description, GenerativeReranker)
    assert description.pair_template == "<s><u>{instruction}<u>{query}<u>{document}<e>"
    assert description.default_instruction == "find"
    bare = read(*talks(PAIR), *SCORES, put("config_sentence_transformers.json", {"model_type": "CrossEncoder"}))
    assert isinstance(bare, GenerativeReranker)
    assert (bare.pair_template, bare.default_instruction) == ("<s><u>{query}<u>{document}<e>", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (talks("{{ messages[0].content | trim }}"), "leaves out or changes a message of the role 'user'"),
        (talks("<u>{{ messages[0].content | upper }}"), "leaves out or changes a message of the role 'user'"),
        (talks("{{ messages[0].content }} a"), "does not begin with a token of its own"),
        (talks("{{ messages[-1].content }}<e>{{ messages[0].content }}"), "leaves out or changes|writes instructions"),
        (talks("{{ strftime_now('%d') }}{{ messages[0].content }}"), "writes the date"),
        (talks("{{ raise_exception('never') }}"), "fails .never.: mend it"),
        (talks("{{ raise_exception('') }}"), "fails .TemplateError.: mend it"),
        (talks("{% if %}"), "fails .* mend it"),
        (talks(TALK, format="auto"), "format = 'auto'"),
        (talks(TALK, method="get_text_features"), "method = 'get_text_features'"),
        (talks(TALK, options={"restore_suffix": False}), "restore_suffix = False"),
        (talks(TALK, options={"tools": [1]}), r"tools = \[1\]"),
        ([*talks(TALK), lambda folder: (folder / "chat_template.jinja").unlink()], "has none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_template_that_cannot_be_applied_beforehand_is_refused(
    read: Callable[..., Description], changes: list[Change], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        read(*changes, prompts={"query": "find"})


def test_a_template_that_is_no_text_is_damaged(read: Callable[..., Description]) -> None:
    with pytest.raises(SourceError, match=r"chat_template\.jinja is damaged .it should hold UTF-8: .* fetch"):
        read(*talks(TALK), lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff<u>"))


def test_an_instruction_behind_a_text_is_refused(read: Callable[..., Description]) -> None:
    template = (
        "<u>{{ messages[-1].content }}<e>{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    )
    with pytest.raises(UnsupportedError, match="writes instructions behind a text"):
        read(*talks(template), prompts={"query": "find"})


@pytest.mark.parametrize("stated", [{"task": Task.MULTI_VECTOR}, {"task": Task.CLASSIFICATION}], ids=str)
def test_a_template_is_for_vectors_of_texts_and_answers(
    read: Callable[..., Description], stated: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match="built for vectors of whole texts and for rerankers"):
        read(*talks(TALK), **stated)


def test_a_chat_template_that_no_text_goes_through_changes_nothing(
    read: Callable[..., Description], tmp_path: Path
) -> None:
    (tmp_path / "chat_template.jinja").write_text(TALK)
    assert read().prompts == {}
    assert json.loads(Checkpoint(tmp_path).tokenizer).get("post_processor") is None


def test_an_older_file_with_another_template_is_refused(read: Callable[..., Description]) -> None:
    older = put("chat_template.json", {"chat_template": TALK})
    expected = read(*talks(TALK)).prompts
    assert read(*talks(TALK), older).prompts == expected
    with pytest.raises(UnsupportedError, match=r"chat_template\.json states another chat template than the folder"):
        read(*talks(PAIR), older)
    with pytest.raises(UnsupportedError, match=r"leave the one that is meant, as chat_template\.jinja"):
        read(*talks(TALK), lambda folder: (folder / "chat_template.jinja").unlink())


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
@pytest.mark.parametrize("labels", [1, 3], ids=["reranker", "classifier"])
def test_whether_a_classifier_without_modules_reads_messages_is_not_guessed(
    read: Callable[..., Description], place: str, labels: int
) -> None:
    head = config(architectures=["BertForSequenceClassification"], num_labels=labels)
    template = put(place, PAIR) if place.endswith(".jinja") else put(*tokenizer_settings(chat_template=PAIR))
    read(without("modules.json"), head)
    said = rf"{place} has a chat template, and no modules\.json .*: if texts, export a copy of the folder without the"
    with pytest.raises(UndecidedError, match=said):
        read(without("modules.json"), head, template)
