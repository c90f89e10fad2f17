"""What a checkpoint's files say beside its weights is honoured as its authors' libraries do, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_export import ExportError, Options, Precision, SourceError, UnsupportedError, export
from conch_export.checkpoints.architecture import defaults
from conch_export.checkpoints.known_keys import CONFIG_WITHOUT_EFFECT
from conch_export.families import family_of
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests.checkpoints import put
from tests.encoders import described
from tests.merging import Published

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints
    from tests.merging import Floats

TEXT = "A Cat sat on THE mat."


@pytest.fixture
def folder(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A plain embedding checkpoint, to do with as one likes."""
    return Path(shutil.copytree(checkpoints.bert(), tmp_path / "bert"))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"tokenizer_config": {"truncation_side": "left"}}, "truncation_side = 'left'"),
        ({"tokenizer_config": {"split_special_tokens": True}}, "split_special_tokens = True"),
        ({"tokenizer_config": {"auto_map": {"AutoTokenizer": ["own.Own", None]}}}, "auto_map"),
        ({"tokenizer_config": {"tokenizer_class": "NoSuchTokenizer"}}, "tokenizer_class NoSuchTokenizer"),
        ({"tokenizer_config": {"spells_backwards": True}}, "spells_backwards = True"),
        ({"sentence_bert_config": {"processor_kwargs": {"use_fast": False}}}, "use_fast = False"),
        ({"sentence_bert_config": {"processing_kwargs": {"text": {"max_length": 9}}}}, "processing_kwargs"),
        ({"sentence_bert_config": {"tokenizer_name_or_path": "elsewhere"}}, "tokenizer_name_or_path = 'elsewhere'"),
        ({"sentence_bert_config": {"modality_config": {"message": {}}}}, "modality_config, message"),
        ({"sentence_bert_config": {"model_args": {"rope_theta": 3}}}, "rope_theta = 3"),
        ({"sentence_bert_config": {"max_seq_length": 0}}, "truncates texts at 0 tokens"),
        ({"sentence_bert_config": {"new_in_8": 1}}, "new_in_8 = 1"),
        ({"sentence_bert_config": {"config_kwargs": {"hidden_act": "relu"}}}, "hidden_act"),
        ({"config_sentence_transformers": {"truncate_dim": 16}}, "truncate_dim = 16"),
        ({"config_sentence_transformers": {"new_in_8": 1}}, "new_in_8 = 1"),
        ({"1_Pooling/config": {"new_in_8": 1}}, "new_in_8 = 1"),
        ({"config": {"new_in_8": 0.5}}, "new_in_8 = 0.5"),
        ({"config": {"is_causal": True}}, "is_causal = True"),
        ({"config": {"use_bidirectional_attention": False}}, "use_bidirectional_attention = False"),
        ({"config": {"add_cross_attention": True}}, "add_cross_attention = True"),
        ({"config": {"pruned_heads": {"0": [1]}}}, "pruned_heads"),
        ({"config": {"quantization_config": {"bits": 4}}}, "quantization_config"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_honoured_is_refused_by_name(folder: Path, files: dict[str, Any], named: str) -> None:
    put(folder, **files)
    with pytest.raises(UnsupportedError) as caught:
        export(Options(str(folder), folder.with_name("models"), precision=Precision.FP32))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_only_newer_libraries_know_is_noticed_without_a_family_too(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints.roformer(), tmp_path / "roformer"))
    put(folder, config={"is_causal": False})
    with pytest.raises(UnsupportedError, match="is_causal = False"):
        described(folder)


def test_what_cannot_change_a_vector_is_no_reason_to_refuse(folder: Path) -> None:
    plain = described(folder)
    put(
        folder,
        config={
            "torch_dtype": "float16", "use_cache": False, "gradient_checkpointing": True, "hidden_dropout_prob": 0.3,
            "task_specific_params": {"a": 1}, "directionality": "bidi", "pooler_fc_size": 768,
            "position_embedding_type": None, "_anything": 1, "new_in_8": None, "label2id": {"a": 0},
            "sentence_transformers": {"version": "4.1.0"},
        },
        tokenizer_config={"padding_side": "left", "chat_template": "{{ x }}", "clean_up_tokenization_spaces": True},
        config_sentence_transformers={"similarity_fn_name": None, "prompts": {"query": None, "a": "A"}},
        sentence_bert_config={"model_args": {"torch_dtype": "bfloat16"}, "unpad_inputs": True},
    )  # fmt: skip
    assert described(folder).max_length == plain.max_length
    assert described(folder).prompts == {"query": "", "a": "A"}


IN_TRANSFORMERS = ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert"]
IN_TRANSFORMERS += ["qwen3", "qwen2", "llama", "mistral"]


@pytest.mark.parametrize("kind", IN_TRANSFORMERS)
def test_every_size_that_a_family_reads_has_transformers_default(kind: str) -> None:
    family = family_of({"model_type": kind})
    assert family is not None
    unknown = {"type_vocab_size", "head_dim", "rope_scaling", "is_causal", "use_mrope"}
    assert set(family.keys) <= {*defaults(kind), *unknown}
    assert not set(family.keys) & CONFIG_WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config": {"hidden_size": "48"}}, "states hidden_size = '48', where a whole number should be"),
        ({"config": {"layer_norm_eps": True}}, "states layer_norm_eps = True, where a number should be"),
        ({"config": {"num_attention_heads": 0}}, "num_attention_heads = 0, where a whole number from 1"),
        ({"config": {"max_position_embeddings": 10**12}}, "where a whole number from 1"),
        ({"config": {"architectures": "BertModel"}}, "states architectures = 'BertModel', where a list should be"),
        ({"sentence_bert_config": {"max_seq_length": "all"}}, "max_seq_length = 'all', where a whole number"),
        ({"config_sentence_transformers": {"prompts": ["query: "]}}, "prompts = ['query: '], where an object"),
        ({"1_Pooling/config": {"include_prompt": "no"}}, "include_prompt = 'no', where true or false"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(folder: Path, files: dict[str, Any], said: str) -> None:
    put(folder, **files)
    with pytest.raises(SourceError) as caught:
        described(folder)
    assert said in str(caught.value)


def exported_vector(folder: Path, text: str) -> Floats:
    """What the exported model answers to the tokens that sentence-transformers makes of a text."""
    repository = folder.with_name("models")
    export(Options(str(folder), repository, "m", precision=Precision.FP32))
    served = Tokenizer.from_str((repository / "m.tokenizer" / "1" / "tokenizer.json").read_text("utf-8"))
    served.no_padding()
    return np.asarray(Published(repository, "m").embedder.alone(served.encode(text).ids))


def assert_vector_of(original: Path, folder: Path) -> None:
    """The checkpoint in `folder` answers what sentence-transformers answers with `original`."""
    expected = SentenceTransformer(str(original), device="cpu").encode(TEXT)
    np.testing.assert_allclose(exported_vector(folder, TEXT), expected, rtol=0, atol=1e-5)


def dense_without_an_activation(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())[:2]
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    put(folder, **{"2_Dense/config": {"in_features": 48, "out_features": 16, "bias": True}})
    torch.manual_seed(1)
    tensors = {"linear.weight": torch.randn(16, 48), "linear.bias": torch.randn(16)}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")


def norms_by_their_older_names(folder: Path) -> None:
    path, older = (
        folder / "model.safetensors",
        {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"},
    )
    tensors = {}
    for name, tensor in load_file(path).items():
        ending = ".".join(name.split(".")[-2:])
        tensors["bert." + name.removesuffix(ending) + older.get(ending, ending)] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


def settings_of_the_first_releases(folder: Path) -> None:
    path = folder / "config.json"
    kept = ("model_type", "hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({key: stated[key] for key in (*kept, "max_position_embeddings")}))


@pytest.mark.parametrize(
    "change",
    [dense_without_an_activation, norms_by_their_older_names, settings_of_the_first_releases],
    ids=lambda change: change.__name__,
)
def test_vectors_are_those_of_sentence_transformers(folder: Path, change: Callable[[Path], None]) -> None:
    change(folder)
    assert_vector_of(folder, folder)


def test_a_class_of_a_checkpoints_own_is_not_imported(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    ran = folder.with_name("ran")
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nfrom sentence_transformers.models import Pooling\n")
    assert export(Options(str(folder), folder.with_name("models"), "m", precision=Precision.FP32)).verification
    assert not ran.exists()


def test_positions_are_counted_from_transformers_padding_id(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.xlm_roberta(), tmp_path / "xlm-roberta"))
    stated = json.loads((folder / "config.json").read_text())
    del stated["pad_token_id"]
    (folder / "config.json").write_text(json.dumps(stated))
    assert_vector_of(folder, folder)


def test_an_encoder_in_a_folder_of_its_own_is_read(folder: Path) -> None:
    older = folder.with_name("older")
    shutil.copytree(folder, older / "0_Transformer", ignore=shutil.ignore_patterns("1_Pooling", "modules.json"))
    shutil.copytree(folder / "1_Pooling", older / "1_Pooling")
    modules = json.loads((folder / "modules.json").read_text())
    (older / "modules.json").write_text(json.dumps([{**modules[0], "path": "0_Transformer"}, *modules[1:]]))
    put(older, **{"0_Transformer/sentence_bert_config": {"max_seq_length": 5}})
    assert described(older).max_length == 5
    put(older, **{"0_Transformer/sentence_bert_config": {"max_seq_length": 50}})
    assert_vector_of(folder, older)


def as_transformers_5_saves_decoders(stated: dict[str, Any]) -> dict[str, Any]:
    base, scaling = stated.pop("rope_theta"), stated.pop("rope_scaling", None) or {"rope_type": "default"}
    return {**stated, "rope_parameters": {"rope_theta": base, **scaling}, "transformers_version": "5.3.0"}


def as_transformers_5_saves_modernbert(stated: dict[str, Any]) -> dict[str, Any]:
    bases = {kind: stated.pop(f"{name}_rope_theta") for kind, name in (("full", "global"), ("sliding", "local"))}
    period = stated.pop("global_attn_every_n_layers")
    layers = ["sliding_attention" if i % period else "full_attention" for i in range(stated["num_hidden_layers"])]
    rope = {f"{kind}_attention": {"rope_theta": base, "rope_type": "default"} for kind, base in bases.items()}
    return {**stated, "layer_types": layers, "rope_parameters": rope, "transformers_version": "5.3.0"}


def as_transformers_5_saves_gemma(stated: dict[str, Any]) -> dict[str, Any]:
    keys = {"full": "rope_theta", "sliding": "rope_local_base_freq"}
    rope = {f"{kind}_attention": {"rope_theta": stated.pop(key), "rope_type": "default"} for kind, key in keys.items()}
    rope["full_attention"] |= stated.pop("rope_scaling")
    return {**stated, "rope_parameters": rope, "transformers_version": "5.3.0"}


@pytest.mark.parametrize(
    ("kind", "changed", "translate"),
    [
        (
            "gemma3",
            {
                "rope_theta": 5000.0,
                "rope_local_base_freq": 300.0,
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            },
            as_transformers_5_saves_gemma,
        ),
        ("qwen3", {"rope_theta": 123456.0}, as_transformers_5_saves_decoders),
        ("llama", {"rope_theta": 123456.0}, as_transformers_5_saves_decoders),
        (
            "modernbert",
            {"global_rope_theta": 5000.0, "local_rope_theta": 300.0, "global_attn_every_n_layers": 2},
            as_transformers_5_saves_modernbert,
        ),
    ],
)
def test_settings_in_the_form_of_transformers_5_are_those_of_4(
    checkpoints: Checkpoints,
    tmp_path: Path,
    kind: str,
    changed: dict[str, Any],
    translate: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    original, newer = (Path(shutil.copytree(getattr(checkpoints, kind)(), tmp_path / name)) for name in ("old", "new"))
    put(original, config=changed)
    stated = json.loads((original / "config.json").read_text())
    (newer / "config.json").write_text(json.dumps(translate(stated)))
    assert_vector_of(original, newer)


@pytest.mark.parametrize(
    ("kind", "rope"),
    [
        ("qwen3", {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}),
        ("qwen3", {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}),
        ("gemma3", {"sliding_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    ],
    ids=str,
)
def test_rotary_positions_that_are_not_built_are_named(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, rope: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(getattr(checkpoints, kind)(), tmp_path / kind))
    put(folder, config={"rope_parameters": rope})
    with pytest.raises(ExportError, match=r"rope_(scaling|parameters).* = .* is not built"):
        export(Options(str(folder), tmp_path / "models", precision=Precision.FP32))
