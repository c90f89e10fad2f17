"""What a checkpoint or the operator says, and nothing would act on, is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, Pooling, Task, UnsupportedError
from conch_export.checkpoints.architecture import in_this_generation
from conch_export.checkpoints.settings import Settings
from conch_export.model.description import Classifier, GenerativeReranker

from tests.unit.export.conftest import MODULES, config, put, without, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], Any]

FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
SCORE = {"idx": 1, "name": "1", "path": "1_LogitScore", "type": "x.LogitScore"}
ANSWERS = {"true_token_id": 1, "false_token_id": 0}
TEMPLATE = "{query} fits {document}?"


def encoder(**settings: Any) -> Change:
    return put("sentence_bert_config.json", settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (encoder(modality_config={"text": {**FORWARD, "method_output_name": "pooler_output"}}), "pooler_output"),
        (encoder(modality_config={"text": {**FORWARD, "method_output_name": ["hidden_states", "-2"]}}), "-2"),
        (encoder(modality_config={"text": {**FORWARD, "method": "get_text_features"}}), "get_text_features"),
        (encoder(module_output_name="sentence_embedding"), "module_output_name = 'sentence_embedding'"),
        (encoder(transformer_task="retrieval"), "transformer_task = 'retrieval'"),
        (encoder(query_length=32), "query_length = 32"),
        (encoder(document_length=180), "document_length = 180"),
        (encoder(query_expansion={"strategy": "fixed", "length": 32}), "query_expansion"),
        (put("config_sentence_transformers.json", {"model_type": "ListEncoder"}), "model_type = 'ListEncoder'"),
        (put("config_sentence_transformers.json", {"similarity_fn_name": "maxsim"}), "similarity_fn_name = 'maxsim'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_way_to_run_the_encoder_is_refused(
    read: Callable[..., Description], change: Change, named: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        read(change)
    assert named in str(caught.value)
    assert "which is not built" in str(caught.value)


def test_the_usual_way_may_be_stated(read: Callable[..., Description]) -> None:
    usual = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    read(encoder(**usual, modality_config={"text": FORWARD}), put("config_sentence_transformers.json", {}))
    read(encoder(modality_config={"text": {**FORWARD, "method_output_name": ["last_hidden_state"]}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [put("1_LogitScore/config.json", {**ANSWERS, "module_input_name": "other_logits"})],
            "module_input_name = 'other_logits'",
        ),
        ([put("modules.json", [MODULES[0], SCORE, {**SCORE, "path": "2_Dense", "type": "x.Dense"}])], "LogitScore, De"),
        ([put("config_sentence_transformers.json", {"activation_fn": "own.Cubed"})], "scores go through own.Cubed"),
    ],
    ids=["other logits", "a further module", "another activation"],
)
def test_a_reranker_of_words_that_scores_otherwise_is_refused(
    read: Callable[..., GenerativeReranker], changes: list[Change], message: str
) -> None:
    listed = [put("modules.json", [MODULES[0], SCORE]), put("tokenizer.json", words("no", "yes"))]
    usual = [*listed, put("1_LogitScore/config.json", {**ANSWERS, "module_input_name": "causal_logits"})]
    assert read(*usual, pair_template=TEMPLATE).score_tokens == ("yes", "no")
    with pytest.raises(UnsupportedError, match=message):
        read(*usual, *changes, pair_template=TEMPLATE)


def test_modules_behind_the_pooling_of_a_sparse_model_are_refused(read: Callable[..., Description]) -> None:
    listed = {"": "MLMTransformer", "1_SpladePooling": "SpladePooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"x.{kind}"}
        for index, (path, kind) in enumerate(listed.items())
    ]
    read(put("modules.json", modules[:2]))
    with pytest.raises(UnsupportedError, match="modules are MLMTransformer, SpladePooling, Normalize is not built"):
        read(put("modules.json", modules))


@pytest.mark.parametrize(
    ("option", "stated"),
    [
        ("--pooling", {"pooling": Pooling.CLS}),
        ("--normalize", {"normalize": False}),
        ("--matryoshka", {"matryoshka": (16,)}),
        ("--matryoshka-centred", {"matryoshka_centred": True}),
        ("--lexical", {"lexical": True}),
        ("--late-chunking", {"late_chunking": True}),
    ],
    ids=str,
)
def test_options_of_embedding_models_are_refused_for_others(
    read: Callable[..., Description], option: str, stated: dict[str, Any]
) -> None:
    labels = config(architectures=["BertForSequenceClassification"], num_labels=3)
    assert type(read(without("modules.json"), labels)) is Classifier
    with pytest.raises(UnsupportedError, match=f"{option} is for embedding models: leave it out for classification"):
        read(without("modules.json"), labels, **stated)


def test_a_template_is_refused_for_rerankers_that_answer_in_numbers(read: Callable[..., Description]) -> None:
    label = config(architectures=["BertForSequenceClassification"], num_labels=1)
    with pytest.raises(UnsupportedError, match="--pair-template is for rerankers that answer in words"):
        read(without("modules.json"), label, task=Task.CROSS_ENCODER, pair_template=TEMPLATE)


@pytest.mark.parametrize("stated", [{"prompts": {"query": "q: "}}, {"default_prompt": ""}], ids=str)
def test_prompts_are_refused_where_a_template_has_no_place_for_them(
    read: Callable[..., Description], stated: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match="has no place for --prompts and --default-prompt"):
        read(score_tokens=("yes", "no"), pair_template=TEMPLATE, **stated)


@pytest.mark.parametrize(
    ("model_type", "parameters"),
    [
        ("phi", {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}),
        ("modernbert", {"full_attention": {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}}),
    ],
)
def test_how_much_of_a_head_turns_is_no_part_of_its_scaling(model_type: str, parameters: dict[str, Any]) -> None:
    read = in_this_generation(Settings("config.json", {"model_type": model_type, "rope_parameters": parameters}))
    assert read["partial_rotary_factor"] == 0.5
    assert read.get("rope_scaling") is None


@pytest.mark.parametrize("base", [{"rope_theta": 5e5}, {}], ids=["beside it", "not stated"])
def test_a_rotary_base_that_rope_parameters_do_not_state_is_not_guessed(base: dict[str, float]) -> None:
    stated = {"model_type": "qwen3", "rope_parameters": {"rope_type": "default"}, **base}
    assert in_this_generation(Settings("config.json", stated)).get("rope_theta") == base.get("rope_theta")


def test_two_scalings_of_rotary_positions_are_refused() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    stated = {"model_type": "qwen3", "rope_scaling": scaling, "rope_parameters": {**scaling, "rope_theta": 1e4}}
    assert in_this_generation(Settings("config.json", stated))["rope_scaling"] == scaling
    stated["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4}
    with pytest.raises(UnsupportedError, match=r"states rope_scaling = .*, and another scaling in rope_parameters"):
        in_this_generation(Settings("config.json", stated))
