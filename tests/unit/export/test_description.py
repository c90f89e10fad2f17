"""What a checkpoint says is read right, and what it does not say is asked for by the option that settles it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conch_export import (
    Description,
    ExportError,
    Pooling,
    SourceError,
    Task,
    UndecidedError,
    UnsupportedError,
    plan,
)
from conch_export.model.description import (
    EmbeddingModel,
    MultiVectorModel,
    SparseModel,
)
from conch_export.model.public_models import public_models
from conch_export.sources.catalog import CATALOG
from conch_export.triton.configuration import triton_models

from tests.unit.export.conftest import DENSE, LSTM, MODULES, config, flags, put, without, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param([without("modules.json")], UndecidedError, "--pooling mean|cls|max|last", id="no modules.json"),
        pytest.param([put("modules.json", MODULES[:1])], UndecidedError, "--pooling", id="no pooling module"),
        pytest.param([without("1_Pooling/config.json")], UndecidedError, "--pooling", id="no pooling configuration"),
        pytest.param(
            [put("1_Pooling/config.json", flags("mean_tokens", "cls_token"))],
            UnsupportedError, "pooling cls + mean is not built", id="two poolings",
        ),
        pytest.param(
            [put("1_Pooling/config.json", flags())], UnsupportedError, "pooling nothing is not built", id="all off"
        ),
        pytest.param(
            [put("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]})],
            UnsupportedError, "pooling cls + mean is not built", id="two poolings by name",
        ),
        pytest.param(
            [put("1_Pooling/config.json", {"pooling_mode": "median"})],
            UnsupportedError, "pooling median is not built", id="an unknown pooling by name",
        ),
        pytest.param(
            [put("1_Pooling/config.json", {"pooling_mode": "max", "include_prompt": False})],
            UnsupportedError, "(include_prompt) are built for the mean, not for max", id="a maximum without the prompt",
        ),
        pytest.param([put("modules.json", [*MODULES[:2], LSTM])], UnsupportedError, "LSTM", id="an unknown module"),
        pytest.param(
            [put("modules.json", [*MODULES, DENSE])], UnsupportedError, "Normalize, Dense", id="Dense after Normalize"
        ),
        pytest.param(
            [put("modules.json", [*MODULES[:2], DENSE]), put("3_Dense/config.json", {"in_features": 48})],
            UnsupportedError, "3_Dense/config.json describes a Dense module", id="a Dense module without a width",
        ),
        pytest.param(
            [
                put("config_sentence_transformers.json", {"model_type": "CrossEncoder"}),
                put("modules.json", [*MODULES[:2], DENSE]),
                put("3_Dense/config.json", {"out_features": 1, "module_output_name": "scores", "use_residual": True}),
            ],
            UnsupportedError, "3_Dense/config.json describes a Dense module", id="a residual before the scores",
        ),
        pytest.param(
            [put("config_sentence_transformers.json", {"prompts": {"query": "q: "}, "default_prompt_name": "passage"})],
            UnsupportedError, "'passage' is not among the checkpoint's prompts ['query']", id="a wrong default prompt",
        ),
        pytest.param(
            [
                without("modules.json"),
                config(architectures=["BertForSequenceClassification"], id2label={"0": "A", "2": "B"}),
            ],
            SourceError, "id2label = {'0': 'A', '2': 'B'}, where an object with a text for each of 0 to 1", id="gaps",
        ),
        pytest.param(
            [
                without("modules.json"),
                config(architectures=["BertForSequenceClassification"], problem_type="ordinal"),
            ],
            UnsupportedError, "problem_type = 'ordinal', which is not built", id="a kind of problem",
        ),
        pytest.param(
            [
                without("modules.json"),
                config(architectures=["BertForSequenceClassification"], num_labels=1),
                put("config_sentence_transformers.json", {"activation_fn": "torch.nn.modules.activation.Softmax"}),
            ],
            UnsupportedError, "scores go through torch.nn.modules.activation.Softmax", id="a softmax of one label",
        ),
        pytest.param(
            [without("modules.json"), config(architectures=["BertForTokenClassification"])],
            UnsupportedError, "named entities, are not served", id="a token classifier",
        ),
        pytest.param(
            [without("modules.json"), config(architectures=["BertForQuestionAnswering"])],
            UnsupportedError, "places of answers are not served", id="an answerer",
        ),
        pytest.param([without("config.json")], SourceError, "no config.json with a model_type", id="no config.json"),
        pytest.param([put("config.json", '{"model_type": "be')], SourceError, "config.json is damaged", id="cut off"),
        pytest.param([put("config.json", [])], SourceError, "config.json is damaged", id="config.json is a list"),
        pytest.param([put("config.json", {})], SourceError, "model_type", id="config.json says nothing"),
        pytest.param([put("config.json", {"model_type": "new"})], ExportError, "does not s", id="no sizes"),
        pytest.param(
            [put("config.json", {"model_type": "llava", "text_config": {"hidden_size": 48}})],
            UnsupportedError, "'llava' reads more than text", id="images too",
        ),
        pytest.param([without("tokenizer.json")], UnsupportedError, "save_pretrained", id="no tokenizer.json"),
        pytest.param([put("tokenizer.json", '{"a')], SourceError, "tokenizer.json is damaged", id="tokenizer cut off"),
        pytest.param([put("sentence_bert_config.json", "[]")], SourceError, "is damaged", id="a list of settings"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_or_built_is_said(
    read: Callable[..., Description], changes: list[Change], error: type[ExportError], message: str
) -> None:
    with pytest.raises(error) as caught:
        read(*changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prompts_are_pooled_unless_the_checkpoint_or_its_authors_say_otherwise(
    read: Callable[..., EmbeddingModel],
) -> None:
    stated = put("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert read().pools_prompt
    assert not read(origin="hub:hkunlp/instructor-large").pools_prompt
    assert not read(stated).pools_prompt
    with pytest.raises(UnsupportedError, match="--late-chunking is not built for a model that leaves prompts out"):
        read(stated, late_chunking=True)


@pytest.mark.parametrize(
    ("stated", "pooling"),
    [
        (flags("mean_tokens"), Pooling.MEAN),
        (flags("cls_token"), Pooling.CLS),
        (flags("max_tokens"), Pooling.MAX),
        (flags("lasttoken"), Pooling.LAST),
        ({"pooling_mode": "mean", "include_prompt": True}, Pooling.MEAN),
        ({"pooling_mode": ["cls"]}, Pooling.CLS),
        ({"pooling_mode": "max"}, Pooling.MAX),
        ({"pooling_mode": "lasttoken"}, Pooling.LAST),
        (flags("mean_sqrt_len_tokens"), Pooling.MEAN_SQRT_LENGTH),
        (flags("weightedmean_tokens"), Pooling.WEIGHTED_MEAN),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, Pooling.MEAN_SQRT_LENGTH),
        ({"pooling_mode": "weightedmean"}, Pooling.WEIGHTED_MEAN),
    ],
    ids=str,
)
def test_the_pooling_is_read_from_either_form(
    read: Callable[..., EmbeddingModel], stated: dict[str, Any], pooling: Pooling
) -> None:
    assert read(put("1_Pooling/config.json", stated)).pooling is pooling


def test_options_settle_what_the_checkpoint_does_not_say(read: Callable[..., EmbeddingModel]) -> None:
    description = read(without("modules.json"), pooling=Pooling.CLS, normalize=True)
    assert (description.pooling, description.normalize) == (Pooling.CLS, True)
    with pytest.raises(UndecidedError, match="--normalize or --no-normalize"):
        read(without("modules.json"), pooling=Pooling.CLS)


def test_an_unknown_module_is_refused_whatever_the_options_say(read: Callable[..., Description]) -> None:
    with pytest.raises(UnsupportedError, match="LSTM"):
        read(put("modules.json", [*MODULES[:2], LSTM]), pooling=Pooling.MEAN, normalize=True)


def test_a_file_that_cannot_be_read_is_not_called_damaged(read: Callable[..., Description]) -> None:
    with pytest.raises(SourceError, match=r"modules\.json cannot be read: Is a directory"):
        read(without("modules.json"), lambda folder: (folder / "modules.json").mkdir())


def test_settings_that_change_the_encoder_are_part_of_its_vector_space(read: Callable[..., Description]) -> None:
    def space(**stated: Any) -> str:
        description = read(put("sentence_bert_config.json", stated))
        return str(triton_models(description, plan(1))["x"].parameters["space_id"].string_value)

    exact = {"layer_norm_eps": 1e-6}
    spaces = [space(), space(config_kwargs=exact), space(config_kwargs={"layer_norm_eps": 1e-5})]
    assert len(set(spaces)) == len(spaces)
    assert space(config_args=exact, max_seq_length=64) == spaces[1]
    assert space(config_kwargs={"revision": "main"}, model_kwargs={"torch_dtype": "float32"}) == spaces[0]


def test_cut_vectors_are_refused_whatever_the_kind_of_model(read: Callable[..., Description]) -> None:
    with pytest.raises(UnsupportedError, match="truncate_dim = 16"):
        read(put("config_sentence_transformers.json", {"truncate_dim": 16}), task=Task.MULTI_VECTOR)


def test_a_dense_module_sets_the_length_of_vectors(read: Callable[..., EmbeddingModel]) -> None:
    stated = {"in_features": 48, "out_features": 16, "activation_function": "torch.nn.modules.activation.Tanh"}
    layer = [put("modules.json", [*MODULES[:2], DENSE, MODULES[2]]), put("3_Dense/config.json", stated)]
    description = read(*layer, put("3_Dense/model.safetensors", ""))
    assert (description.dimension, description.normalize) == (16, True)
    assert [(layer.folder, layer.activation) for layer in description.dense] == [("3_Dense", "tanh")]


def test_a_dense_module_that_is_a_pickle_is_refused_at_once(read: Callable[..., EmbeddingModel]) -> None:
    layer = [put("modules.json", [*MODULES[:2], DENSE, MODULES[2]]), put("3_Dense/config.json", {"out_features": 16})]
    with pytest.raises(SourceError, match=r"3_Dense has no model\.safetensors \(found: pytorch_model\.bin\)"):
        read(*layer, put("3_Dense/pytorch_model.bin", ""))


def test_what_is_only_for_training_is_left_out(read: Callable[..., EmbeddingModel]) -> None:
    dropout = {"idx": 3, "name": "3", "path": "3_Dropout", "type": "sentence_transformers.models.Dropout"}
    assert read(put("modules.json", [*MODULES[:2], dropout, MODULES[2]])).normalize


def test_vectors_are_normalised_only_where_a_module_says_so(read: Callable[..., EmbeddingModel]) -> None:
    assert read().normalize
    assert not read(put("modules.json", MODULES[:2])).normalize
    assert not read(normalize=False).normalize


def test_prompts_are_read(read: Callable[..., Description]) -> None:
    stated = {"prompts": {"query": "query: ", "größe": "日本語: "}, "default_prompt_name": "query"}
    description = read(put("config_sentence_transformers.json", stated))
    assert description.prompts == stated["prompts"]
    assert description.default_prompt_name == "query"


def test_no_prompts_are_no_prompts(read: Callable[..., Description]) -> None:
    stated: dict[str, Any] = {"prompts": {}, "default_prompt_name": None}
    description = read(put("config_sentence_transformers.json", stated))
    assert (description.prompts, description.default_prompt_name) == ({}, "")


def test_prompts_stated_by_the_operator_replace_the_checkpoints(read: Callable[..., Description]) -> None:
    stated = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    change = put("config_sentence_transformers.json", stated)
    description = read(change, prompts={"ask": "Q: "})
    assert (description.prompts, description.default_prompt_name) == ({"ask": "Q: "}, "")
    assert read(change, default_prompt="").default_prompt_name == ""
    with pytest.raises(UnsupportedError, match="'query' is not among"):
        read(change, prompts={"ask": "Q: "}, default_prompt="query")


@pytest.mark.parametrize(
    ("origin", "prompts", "default"),
    [
        ("hub:intfloat/e5-small-v2", {"query": "query: ", "passage": "passage: "}, "query"),
        ("hub:BAAI/bge-small-en-v1.5", {"query": "Represent this sentence for searching relevant passages: "}, ""),
        (
            "hub:Snowflake/snowflake-arctic-embed-m",
            {"query": "Represent this sentence for searching relevant passages: "},
            "",
        ),
        ("hub:somebody/e5-small-v2", {}, ""),
        ("hub:e5-small-v2", {}, ""),
        ("folder:intfloat/e5-small-v2", {}, ""),
    ],
)
def test_prompts_of_known_models_go_by_where_they_come_from(
    read: Callable[..., Description], origin: str, prompts: dict[str, str], default: str
) -> None:
    description = read(origin=origin)
    assert (description.prompts, description.default_prompt_name) == (prompts, default)


def test_a_checkpoints_own_prompts_come_before_what_is_known(read: Callable[..., Description]) -> None:
    own = put("config_sentence_transformers.json", {"prompts": {"query": "own: "}})
    assert read(own, origin="hub:intfloat/e5-small-v2").prompts == {"query": "own: "}


def test_lengths_of_shorter_vectors_are_stated_or_known_and_never_guessed(read: Callable[..., EmbeddingModel]) -> None:
    assert read().matryoshka == ()
    assert read(matryoshka=(16, 32)).matryoshka == (48, 32, 16)
    with pytest.raises(UnsupportedError, match="--matryoshka 49: lengths must be from 1 to 48"):
        read(matryoshka=(49,))


def test_lengths_of_shorter_vectors_are_read_from_the_checkpoint(read: Callable[..., EmbeddingModel]) -> None:
    stated = config(matryoshka_dimensions=[16, 32])
    assert read(stated).matryoshka == (48, 32, 16)
    assert read(stated, matryoshka=(24,)).matryoshka == (48, 24)
    with pytest.raises(SourceError, match="states matryoshka_dimensions = 16, where a list should be"):
        read(config(matryoshka_dimensions=16))
    with pytest.raises(SourceError, match=r"states matryoshka_dimensions = \['16'\], where a list of whole numbers"):
        read(config(matryoshka_dimensions=["16"]))


def test_the_lengths_of_nomics_vectors_are_those_of_its_authors() -> None:
    known = {version: CATALOG[f"nomic-embed-text-v{version}"].usage for version in ("1", "1.5")}
    assert (known["1.5"].matryoshka, known["1.5"].matryoshka_centred) == ((768, 512, 256, 128, 64), True)
    assert (known["1"].matryoshka, known["1"].matryoshka_centred) == ((), False)
    assert known["1"].prompts == known["1.5"].prompts


def test_how_authors_compare_vectors_is_passed_on(read: Callable[..., EmbeddingModel]) -> None:
    assert read().similarity == ""
    assert read(put("config_sentence_transformers.json", {"similarity_fn_name": "dot"})).similarity == "dot"


def test_colbert_is_told_by_its_metadata_and_marks_by_its_tokens(read: Callable[..., MultiVectorModel]) -> None:
    vocabulary = words("[CLS]", "[MASK]", "[unused0]", "[unused1]", ".", "!", "a")
    layer = {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"}
    projection = [
        put("modules.json", [MODULES[0], layer]),
        put("1_Dense/config.json", {"out_features": 16}),
        put("1_Dense/model.safetensors", ""),
    ]
    said = {
        "query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": 32, "document_length": 500,
        "attend_to_expansion_tokens": False, "skiplist_words": [".", "!", "unknown"],
    }  # fmt: skip
    tokenizer = put("tokenizer.json", vocabulary)
    described = read(*projection, tokenizer, put("config_sentence_transformers.json", said))
    assert (described.task, described.dimension, described.max_length) == (Task.MULTI_VECTOR, 16, 128)
    rules = described.interaction
    assert rules is not None
    assert (rules.query_marker, rules.document_marker, rules.augmentation, rules.skip_list) == (2, 3, 1, (4, 5))
    assert (rules.query_length, rules.document_length, rules.attends_to_augmentation) == (32, 128, False)
    with pytest.raises(UnsupportedError, match=r"the tokenizer has no token '\[Q\] '"):
        read(*projection, tokenizer, put("config_sentence_transformers.json", {**said, "query_prefix": "[Q] "}))


@pytest.mark.parametrize("task", [Task.RERANK, Task.LATE_INTERACTION])
def test_a_task_that_no_checkpoint_has_is_refused(read: Callable[..., Description], task: Task) -> None:
    with pytest.raises(UnsupportedError, match=f"no checkpoint has the task '{task}'"):
        read(task=task)


def test_what_a_checkpoint_without_modules_is_for_is_known_of_the_hub(read: Callable[..., Description]) -> None:
    listed = [without("modules.json"), config(architectures=["BertForMaskedLM"])]
    assert type(read(*listed, origin="hub:naver/splade-cocondenser-ensembledistil")) is SparseModel
    with pytest.raises(UndecidedError, match="--pooling"):
        read(*listed, origin="hub:somebody/splade")


def test_splade_is_told_by_its_pooling(read: Callable[..., Description]) -> None:
    splade = {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": "x.SpladePooling"}
    listed = put("modules.json", [{**MODULES[0], "type": "x.MLMTransformer"}, splade])
    description = read(listed)
    assert type(description) is SparseModel
    assert (description.task, public_models(description)[0].dimension) == (Task.SPARSE, 600)
    with pytest.raises(UnsupportedError, match="pooling 'sum'"):
        read(listed, put("1_SpladePooling/config.json", {"pooling_strategy": "sum"}))


def test_a_pickled_layer_is_refused_with_the_command_that_converts_it(read: Callable[..., EmbeddingModel]) -> None:
    with pytest.raises(UnsupportedError, match=r"--lexical needs sparse_linear.safetensors.*save_file"):
        read(lexical=True)
    assert not read(put("sparse_linear.pt", "pickled")).lexical
    with pytest.raises(UnsupportedError, match=r"sparse_linear.pt is a pickle.*save_file"):
        read(lexical=True)
