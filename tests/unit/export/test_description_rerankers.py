"""Rerankers and classifiers: templates, instructions and labels, as the checkpoint or the operator states them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, ExportError, Task, UndecidedError, UnsupportedError
from conch_export.model.description import Classifier, CrossEncoder, GenerativeReranker

from tests.unit.export.conftest import MODULES, config, put, without, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], Any]


def test_a_reranker_that_answers_in_words_needs_its_template(read: Callable[..., GenerativeReranker]) -> None:
    with pytest.raises(UnsupportedError, match=r"needs --pair-template with \{query\} and"):
        read(score_tokens=("yes", "no"))
    template = "{query} fits {document}?"
    description = read(score_tokens=("yes", "no"), pair_template=template)
    assert (description.task, description.pair_template, description.segments) == (Task.CROSS_ENCODER, template, False)
    assert type(description) is GenerativeReranker
    assert read(origin="hub:Qwen/Qwen3-Reranker-0.6B").score_tokens == ("yes", "no")


def test_a_reranker_of_words_may_name_them_itself(read: Callable[..., GenerativeReranker]) -> None:
    score = {"idx": 1, "name": "1", "path": "1_LogitScore", "type": "x.LogitScore"}
    listed = [put("modules.json", [MODULES[0], score]), put("tokenizer.json", words("no", "yes"))]
    settings = {"true_token_id": 1, "false_token_id": 0}
    described = read(*listed, put("1_LogitScore/config.json", settings), pair_template="{query}{document}")
    assert described.score_tokens == ("yes", "no")
    with pytest.raises(UnsupportedError, match="one word's logit is not built"):
        read(*listed, put("1_LogitScore/config.json", {"true_token_id": 1}))


@pytest.mark.parametrize("labels", [{"id2label": {"0": "LABEL_0"}}, {"num_labels": 1}], ids=str)
def test_a_one_label_classifier_is_a_cross_encoder(read: Callable[..., Description], labels: dict[str, Any]) -> None:
    classifier = config(architectures=["BertForSequenceClassification"], **labels)
    description = read(without("modules.json"), classifier)
    assert type(description) is CrossEncoder
    assert (description.task, description.segments) == (Task.CROSS_ENCODER, True)


@pytest.mark.parametrize(
    ("stated", "error", "message"),
    [
        ({"pair_template": "{instruction} {query} {document}"}, UndecidedError, "--default-instruction"),
        (
            {"pair_template": "{query} {document}", "default_instruction": "x"},
            UnsupportedError,
            "needs {instruction} in",
        ),
        ({"pair_template": "{instruction}{instruction} {query} {document}"}, UnsupportedError, "once each"),
    ],
    ids=["no default", "no place", "two places"],
)
def test_a_template_and_its_instruction_go_together(
    read: Callable[..., Description], stated: dict[str, str], error: type[ExportError], message: str
) -> None:
    with pytest.raises(error) as caught:
        read(score_tokens=("yes", "no"), **stated)
    assert message in str(caught.value)


def test_an_instruction_has_its_default(read: Callable[..., Description]) -> None:
    stated = {"pair_template": "{instruction} {query} {document}", "default_instruction": "find"}
    description = read(score_tokens=("yes", "no"), **stated)
    assert isinstance(description, GenerativeReranker)
    assert description.default_instruction == "find"
    known = read(origin="hub:Qwen/Qwen3-Reranker-0.6B")
    assert isinstance(known, GenerativeReranker)
    assert "<Instruct>: {instruction}\n" in known.pair_template
    assert known.default_instruction.startswith("Given a web search query")


def test_a_reranker_may_answer_in_numbers(read: Callable[..., GenerativeReranker]) -> None:
    known = read(put("tokenizer.json", words("0", "1")), origin="hub:mixedbread-ai/mxbai-rerank-base-v2")
    assert known.score_tokens == ("1", "0")
    assert "\nquery: {query}{split}\ndocument: {document}{split}\nYou are a search" in known.pair_template
    assert known.pair_template.endswith("Relevance:<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "modernbert", "qwen3", "roformer", "no-such-model"])
@pytest.mark.parametrize("task", [None, Task.CLASSIFICATION, Task.CROSS_ENCODER])
def test_labels_of_single_tokens_are_refused_whatever_the_architecture_and_the_task(
    read: Callable[..., Description], model_type: str, task: Task | None
) -> None:
    labels = {str(number): name for number, name in enumerate(("O", "B-PER", "I-PER"))}
    ner = config(
        model_type=model_type, architectures=["XForTokenClassification"], id2label=labels, type_vocab_size=None
    )
    with pytest.raises(UnsupportedError, match=r"named entities, are not served\. If .* state --task embedding"):
        read(without("modules.json"), without("tokenizer.json"), ner, **({"task": task} if task else {}))


NLI = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "maybe", "2": "yes"}}


@pytest.mark.parametrize(
    ("more", "stated", "activation"),
    [
        ({}, "", "softmax"),
        ({"problem_type": "single_label_classification"}, "linear.Identity", "softmax"),
        ({"problem_type": "multi_label_classification"}, "", "sigmoid"),
        ({"problem_type": "regression"}, "", "identity"),
        ({}, "activation.Sigmoid", "sigmoid"),
        ({"problem_type": "multi_label_classification"}, "activation.Softmax", "softmax"),
    ],
    ids=str,
)
def test_several_labels_are_classes_as_the_checkpoint_states_them(
    read: Callable[..., Description], more: dict[str, Any], stated: str, activation: str
) -> None:
    changes = [without("modules.json"), config(**NLI, **more)]
    if stated:
        changes.append(put("config_sentence_transformers.json", {"activation_fn": f"torch.nn.modules.{stated}"}))
    description = read(*changes)
    assert isinstance(description, Classifier)
    assert (description.labels, description.activation) == (("no", "maybe", "yes"), activation)


OLDER = "sbert_ce_default_activation_function"


@pytest.mark.parametrize(
    ("stated", "activation"), [("linear.Identity", "softmax"), ("activation.Sigmoid", "sigmoid")], ids=str
)
def test_what_older_cross_encoders_state_of_their_scores_is_read(
    read: Callable[..., Description], stated: str, activation: str
) -> None:
    older, one = {OLDER: f"torch.nn.modules.{stated}"}, {"architectures": NLI["architectures"], "num_labels": 1}
    assert type(read(without("modules.json"), config(**one, **older))) is CrossEncoder
    several = read(without("modules.json"), config(**NLI, **older))
    assert isinstance(several, Classifier)
    assert several.activation == activation
    with pytest.raises(UnsupportedError, match=r"scores go through own\.Cubed"):
        read(without("modules.json"), config(**one, **{OLDER: "own.Cubed"}))


def test_labels_without_names_have_those_of_transformers(read: Callable[..., Description]) -> None:
    description = read(without("modules.json"), config(architectures=["BertForSequenceClassification"]))
    assert isinstance(description, Classifier)
    assert description.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(("more", "exclusive"), [({}, True), ({"problem_type": "multi_label_classification"}, False)])
def test_a_reranker_scores_by_the_label_that_the_operator_names(
    read: Callable[..., Description], more: dict[str, Any], exclusive: bool
) -> None:
    description = read(without("modules.json"), config(**NLI, **more), label="yes")
    assert isinstance(description, CrossEncoder)
    assert (description.label, description.exclusive) == (2, exclusive)


@pytest.mark.parametrize(
    ("changes", "stated", "error", "message"),
    [
        ([config(**NLI)], {"task": Task.CROSS_ENCODER}, UndecidedError, "state --label, one of no, maybe, yes"),
        ([config(**NLI)], {"label": "Yes"}, UnsupportedError, "has no such label (it has: no, maybe, yes)"),
        (
            [config(**NLI | {"id2label": {"0": "no", "1": "yes", "2": "yes"}})],
            {"label": "yes"},
            UnsupportedError,
            "has several labels of that name",
        ),
        ([], {"label": "yes", "score_tokens": ("yes", "no")}, UnsupportedError, "--label is for sequence classifiers"),
        ([], {"label": "yes"}, UnsupportedError, "leave it out for embedding"),
        (
            [config(**NLI)],
            {"label": "yes", "default_instruction": "x"},
            UnsupportedError,
            "--default-instruction is for",
        ),
    ],
    ids=["none", "unknown", "twice", "no classifier", "an embedding model", "an instruction"],
)
def test_a_label_that_does_not_say_which_is_refused(
    read: Callable[..., Description],
    changes: list[Change],
    stated: dict[str, Any],
    error: type[ExportError],
    message: str,
) -> None:
    with pytest.raises(error) as caught:
        read(without("modules.json"), *changes, **stated)
    assert message in str(caught.value)


def test_a_classifier_of_one_label_may_be_asked_for(read: Callable[..., Description]) -> None:
    classifier = config(architectures=["BertForSequenceClassification"], id2label={"0": "toxic"})
    description = read(without("modules.json"), classifier, task=Task.CLASSIFICATION)
    assert isinstance(description, Classifier)
    assert (description.labels, description.activation) == (("toxic",), "sigmoid")


@pytest.mark.parametrize(
    ("option", "stated"),
    [
        ("--score-tokens", {"score_tokens": ("yes", "no")}),
        ("--pair-template", {"pair_template": "{query} {document}"}),
        ("--default-instruction", {"default_instruction": "find"}),
    ],
)
def test_options_of_rerankers_are_refused_for_other_models(
    read: Callable[..., Description], option: str, stated: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match=f"{option} is for rerankers: leave it out for embedding"):
        read(task=Task.EMBEDDING, **stated)
