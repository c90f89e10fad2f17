"""Every encoder family computes what its authors' implementation computes, at every length, and in int8 nearly so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_export import Options, export
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.errors import SourceError, UndecidedError, UnsupportedError
from conch_export.families.deberta_v2 import log_buckets
from conch_export.onnx.distances import SHORT_TOKENS, TILE_TOKENS
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.engine import EncoderGraph, Row
from conch_export.verification.plain import PlainEncoder
from safetensors.torch import save_model
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from tests import head_checkpoints
from tests.encoders import read_encoder
from tests.hub_checkpoints import ADAPTERS
from tests.hub_models import JinaBert, NomicMoe
from tests.merging import padded

if TYPE_CHECKING:
    from tests.checkpoints import Checkpoints
    from tests.hub_models import SecondWriting
    from tests.integration.export.conftest import Exports
    from tests.merging import Floats

IN_TRANSFORMERS = ["mpnet", "modernbert", "qwen3", "qwen2", "llama", "mistral", "distilbert", "electra", "camembert"]
IN_TRANSFORMERS += ["gemma3", "deberta_v2", "t5"]
GOLDEN = ["nomic_bert", "gte", "jina_v3", "eurobert", "llama_bidirec", "qwen2_5_vl"]
FAMILIES = [*IN_TRANSFORMERS, *GOLDEN, "jina_bert", "nomic_moe"]
GOLDEN += ["gte_multilingual", "both_ways", "qwen3_vl"]  # relatives of those
LAST = ["qwen3", "qwen2", "mistral"]  # what is pooled; the others take the mean
LENGTHS = (3, 17, 1, TILE_TOKENS, 130, SHORT_TOKENS, SHORT_TOKENS + 1, 3 * TILE_TOKENS + 1, 300)
random = np.random.default_rng(0)
ROWS = [random.integers(105, 30000, length).tolist() for length in LENGTHS]


def units(vectors: Any) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def pooled(tokens: Floats, family: str) -> Floats:
    return np.asarray(tokens[-1] if family in LAST else tokens.mean(axis=0))


def encoder_of(folder: Path) -> Any:
    """The checkpoint's encoder in transformers; of T5 alone `AutoModel` would take the decoder too."""
    kind: Any = AutoModelForTextEncoding if "t5" in folder.name else AutoModel
    return kind.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.mark.parametrize("family", IN_TRANSFORMERS)
def test_vectors_are_those_of_transformers(exports: Exports, checkpoints: Checkpoints, family: str) -> None:
    model = encoder_of(getattr(checkpoints, family)())
    with torch.inference_mode():
        tokens = [model(input_ids=torch.tensor([row])).last_hidden_state[0].numpy() for row in ROWS]
    expected = units(np.stack([pooled(each, family) for each in tokens]))
    np.testing.assert_allclose(exports(family).embedder(padded(ROWS))[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("distilbert", {"dim": 72, "hidden_dim": 100, "n_layers": 3, "n_heads": 3, "activation": "relu"}),
        ("distilbert", {"sinusoidal_pos_embds": True}),
        ("electra", {"hidden_size": 40, "embedding_size": 88, "num_attention_heads": 2, "intermediate_size": 72}),
        ("electra", {"hidden_size": 64, "embedding_size": 16, "num_hidden_layers": 3}),
        ("electra", {"hidden_size": 48, "embedding_size": 48}),
        ("camembert", {"hidden_size": 72, "num_hidden_layers": 3, "type_vocab_size": 2}),
        ("deberta", {"hidden_size": 72, "num_attention_heads": 3, "max_relative_positions": 100}),
        ("deberta-v2", {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1, "type_vocab_size": 2}),
        ("deberta-v2", {"position_biased_input": True, "pos_att_type": "p2c|c2p", "max_relative_positions": 200}),
        ("t5", {"num_heads": 2, "relative_attention_num_buckets": 12, "relative_attention_max_distance": 400}),
        ("mt5", {"feed_forward_proj": "gated-silu"}),
        ("umt5", {"relative_attention_max_distance": 40}),
        ("modernbert", {"local_rope_theta": None}),
        ("mpnet", {"pad_token_id": 0}),
    ],
    ids=str,
)
def test_token_vectors_are_those_of_transformers_at_other_sizes(
    tmp_path: Path, kind: str, sizes: dict[str, Any]
) -> None:
    head = "EncoderModel" if "t5" in kind else "Model"
    folder = head_checkpoints.make(tmp_path / kind, kind, head, max_position_embeddings=402, **sizes)
    model = encoder_of(folder)
    with torch.inference_mode():
        expected = [model(input_ids=torch.tensor([row])).last_hidden_state[0].numpy() for row in ROWS]
    graph = EncoderGraph(encoder_graph(read_encoder(folder)).save(tmp_path))
    found = graph([Row(row, [0] * len(row)) for row in ROWS])
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", GOLDEN)
def test_vectors_are_those_of_newer_transformers(exports: Exports, family: str) -> None:
    golden = json.loads(Path(__file__).parents[2].joinpath("golden/token_means.json").read_text())
    vectors = exports(family).embedder(padded(golden["rows"]))[0]
    np.testing.assert_allclose(vectors, units(np.array(golden["means"][family])), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_decoder_sees_both_ways_where_its_settings_say_so(
    checkpoints: Checkpoints, tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(getattr(checkpoints, family)(), tmp_path / family))
    model, config = encoder_of(folder), json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_causal": False}))
    encode = PlainEncoder(read_encoder(folder))
    for row in ROWS[:2]:
        nothing_hidden = torch.zeros(1, 1, len(row), len(row))
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([row]), attention_mask=nothing_hidden).last_hidden_state[0]
        np.testing.assert_allclose(encode(row, [0] * len(row)), expected, rtol=0, atol=2e-5)


def test_scores_of_gte_are_those_of_newer_transformers(exports: Exports) -> None:
    golden = json.loads(Path(__file__).parents[2].joinpath("golden/token_means.json").read_text())
    scores = exports("gte_cross_encoder").classifier(padded(golden["rows"]))[0]
    np.testing.assert_allclose(scores[:, 0], golden["scores"]["gte_cross_encoder"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_plain_computation(exports: Exports, checkpoints: Checkpoints, family: str) -> None:
    encoder = PlainEncoder(read_encoder(getattr(checkpoints, family)(), ADAPTERS.get(family, "")))
    expected = units(np.stack([pooled(encoder(row, [0] * len(row)).numpy(), family) for row in ROWS]))
    np.testing.assert_allclose(exports(family).embedder(padded(ROWS))[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_keeps_the_direction_of_vectors(exports: Exports, family: str) -> None:
    exact, rounded = (exports(family, precision).embedder(padded(ROWS))[0] for precision in ("fp32", "int8"))
    assert float((exact * rounded).sum(axis=1).mean()) >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_is_the_same_alone_and_among_others(exports: Exports, family: str, precision: str) -> None:
    embedder = exports(family, precision).embedder
    together = embedder(padded(ROWS))[0]
    alone = np.concatenate([embedder(padded([row]))[0] for row in ROWS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6 if precision == "fp32" else 2e-6)


@pytest.mark.parametrize(("count", "farthest"), [(256, 512), (64, 402), (32, 128), (320, 1024)])
def test_positions_of_deberta_are_in_the_buckets_of_transformers(count: int, farthest: int) -> None:
    distances = np.arange(-farthest, farthest + 1)
    expected = make_log_bucket_position(torch.tensor(distances), count, farthest).long().numpy()
    np.testing.assert_array_equal(log_buckets(distances, count, farthest), expected)


@pytest.mark.parametrize(("family", "model"), [("jina_bert", JinaBert), ("nomic_moe", NomicMoe)])
def test_vectors_are_those_of_a_second_writing(
    exports: Exports, checkpoints: Checkpoints, family: str, model: type[SecondWriting]
) -> None:
    written = model(getattr(checkpoints, family)())
    with torch.inference_mode():
        expected = units(np.stack([written(row).mean(0).numpy() for row in ROWS]))
    np.testing.assert_allclose(exports(family).embedder(padded(ROWS))[0], expected, rtol=0, atol=1e-5)


BERT_NAMES = {
    "n_embd": "hidden_size",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "layer_norm_epsilon": "layer_norm_eps",
}
OWN_SETTINGS = ("activation_function", "rotary_emb_base", "rotary_emb_fraction", "n_positions", *BERT_NAMES)


@pytest.mark.parametrize("beside", [False, True], ids=["instead", "beside"])
def test_nomic_bert_is_read_by_the_names_of_transformers_5(
    checkpoints: Checkpoints, tmp_path: Path, *, beside: bool
) -> None:
    own = Checkpoint(checkpoints.nomic_bert()).stated_config
    theirs = {BERT_NAMES.get(key, key): value for key, value in own.items() if beside or key not in OWN_SETTINGS}
    theirs |= {new: own[key] for key, new in BERT_NAMES.items()} | {
        "hidden_act": "silu",
        "head_dim": 12,
        "max_position_embeddings": 2048 if beside else own["n_positions"],
        "rope_parameters": {"rope_type": "default", "rope_theta": own["rotary_emb_base"]},
    }
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    assert {key: Checkpoint(tmp_path).config.get(key) for key in OWN_SETTINGS} == {
        key: own[key] for key in OWN_SETTINGS
    }


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_whose_tokens_share_an_experts_product_changes_no_bit(exports: Exports, precision: str) -> None:
    embedder = exports("nomic_moe", precision).embedder
    rows = ROWS[:6]
    alone = np.concatenate([embedder(padded([row]))[0] for row in rows])
    for order in ([4, 2, 0, 1, 5, 3], [1, 4, 5, 3, 2, 0]):
        together = embedder(padded([rows[place] for place in order]))[0]
        np.testing.assert_array_equal(together, alone[order])


UNSTATED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "the first Llama": ("llama", {"num_key_value_heads": 4, "head_dim": 12}, ["num_key_value_heads", "head_dim"]),
    "a default rope": ("llama", {"rope_scaling": {"type": "default"}}, []),
    "one key head for each": ("qwen2", {"num_key_value_heads": None}, []),
    "no window": ("mistral", {"sliding_window": None}, []),
    "the default window": ("mistral", {}, ["sliding_window"]),
    "a width of heads": ("mistral", {"head_dim": 20}, []),
    "the direction of Gemma": (
        "gemma3",
        {"sliding_window": 24, "sliding_window_pattern": 2},
        ["use_bidirectional_attention", "layer_types", "query_pre_attn_scalar", "rope_local_base_freq"],
    ),
    "slower positions of global layers": ("gemma3", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, []),
    "a window of odd size": ("gemma3", {"sliding_window": 23}, []),
}
"""A family, settings that its config.json states otherwise, and those that it leaves out."""


@pytest.mark.parametrize("case", UNSTATED)
def test_what_a_decoder_leaves_out_is_what_transformers_takes(
    checkpoints: Checkpoints, tmp_path: Path, case: str
) -> None:
    family, changed, left_out = UNSTATED[case]
    stated = json.loads((getattr(checkpoints, family)() / "config.json").read_text()) | changed
    for key in left_out:
        stated.pop(key)
    (tmp_path / "config.json").write_text(json.dumps(stated))
    torch.manual_seed(0)
    models: Any = AutoModel
    model = models.from_config(AutoConfig.from_pretrained(tmp_path), attn_implementation="eager").eval()
    save_model(model, str(tmp_path / "model.safetensors"))
    encoder, row = PlainEncoder(read_encoder(tmp_path)), ROWS[4]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([row])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encoder(row, [0] * len(row)).numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral"])
def test_a_decoder_said_to_see_both_ways_by_a_key_that_no_transformers_reads_is_refused(
    checkpoints: Checkpoints, tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(getattr(checkpoints, family)(), tmp_path / family))
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, "use_bidirectional_attention": True}))
    with pytest.raises(UnsupportedError, match="use_bidirectional_attention"):
        export(Options(str(folder), tmp_path / "models"))


@pytest.mark.parametrize(
    "wrong",
    [{"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {"sliding_window": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_of_a_decoder_that_make_no_sense_are_named(
    checkpoints: Checkpoints, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(checkpoints.mistral(), tmp_path / "mistral"))
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **wrong}))
    with pytest.raises(SourceError, match=f"states {next(iter(wrong))} = "):
        export(Options(str(folder), tmp_path / "models"))


def test_a_length_that_nothing_states_is_asked_for(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.t5(), tmp_path / "t5"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5TokenizerFast"}))
    with pytest.raises(UndecidedError, match="--max-length"):
        export(Options(str(folder), tmp_path / "models"))


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("mpnet", "hidden_act", "relu"),
        ("distilbert", "activation", "silu"),
        ("electra", "hidden_act", "relu"),
        ("deberta_v2", "norm_rel_ebd", "rms"),
        ("deberta_v2", "position_buckets", 1),
        ("t5", "dense_act_fn", "mish"),
        ("modernbert", "hidden_activation", "relu"),
        ("qwen3", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("qwen2", "use_sliding_window", True),
        ("qwen2", "layer_types", ["full_attention", "sliding_attention"]),
        ("llama", "rope_scaling", {"rope_type": "dynamic", "factor": 2.0}),
        ("mistral", "hidden_act", "gelu"),
        ("gemma3", "attn_logit_softcapping", 50.0),
        ("gemma3", "layer_types", ["chunked_attention"] * 4),
        ("nomic_bert", "rotary_scaling_factor", 2),
        ("nomic_moe", "moe_normalize_expert_weights", True),
        ("nomic_moe", "num_shared_experts", 1),
        ("mpnet", "relative_attention_num_buckets", 64),
        ("gte", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("gte", "rope_scaling", {"type": "ntk"}),
        ("jina_bert", "feed_forward_type", "original"),
    ],
)
def test_a_variant_that_is_not_built_is_refused_by_name(
    checkpoints: Checkpoints, tmp_path: Path, family: str, setting: str, value: object
) -> None:
    folder = getattr(checkpoints, family)()
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, setting: value}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(UnsupportedError, match=setting):
        read_encoder(tmp_path)
