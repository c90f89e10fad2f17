"""A family is its module: nothing lists it, and what it reads of config.json is stated in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import UnsupportedError, families
from conch_export.checkpoints.architecture import refuse_unread
from conch_export.checkpoints.known_keys import CONFIG_WITHOUT_EFFECT
from conch_export.checkpoints.settings import Settings
from conch_export.checkpoints.weights import Weights
from conch_export.families import family_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert"},
    "jina_bert": {"model_type": "bert", "position_embedding_type": "alibi"},
    "roberta": {"model_type": "xlm-roberta"},
    "xlm_roberta_flash": {"model_type": "xlm-roberta", "position_embedding_type": "rotary"},
    "distilbert": {"model_type": "distilbert"},
    "electra": {"model_type": "electra"},
    "mpnet": {"model_type": "mpnet"},
    "deberta": {"model_type": "deberta", "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta_v2": {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "t5": {"model_type": "t5"},
    "modernbert": {"model_type": "modernbert"},
    "nomic_bert": {"model_type": "nomic_bert"},
    "gte": {"model_type": "gte", "position_embedding_type": "rope"},
    "eurobert": {"model_type": "eurobert", "auto_map": {"AutoModel": "modeling_eurobert.EuroBertModel"}},
    "llama_bidirec": {"model_type": "llama_bidirec", "auto_map": {"AutoModel": "llama.LlamaBidirectionalModel"}},
    "qwen3": {"model_type": "qwen3"},
    "qwen2": {"model_type": "qwen2"},
    "llama": {"model_type": "llama"},
    "mistral": {"model_type": "mistral"},
    "gemma3": {"model_type": "gemma3_text"},
    "qwen2_5_vl": {"model_type": "qwen2_5_vl_text"},
    "qwen3_vl": {"model_type": "qwen3_vl_text"},
}
DATA2VEC = """
from conch_export.families.roberta import Roberta


class Data2VecText(Roberta):
    model_types = ("data2vec-text",)


FAMILY = Data2VecText()
"""


@pytest.mark.parametrize("name", CONFIGS)
def test_each_reads_its_own_config(name: str) -> None:
    family = family_of(CONFIGS[name])
    assert type(family).__module__.rpartition(".")[2] == name


@pytest.mark.parametrize("name", CONFIGS)
def test_no_key_that_is_read_is_said_to_have_no_effect(name: str) -> None:
    family = family_of(CONFIGS[name])
    assert family is not None
    assert not set(family.keys) & {*CONFIG_WITHOUT_EFFECT, *family.unread.split()}
    assert set(family.built) <= set(family.keys)


def test_qwen2_5_may_state_that_its_positions_have_one_part() -> None:
    family, stated = family_of(CONFIGS["qwen2"]), {**CONFIGS["qwen2"], "hidden_act": "silu"}
    assert family is not None
    refuse_unread(Settings("config.json", {**stated, "use_mrope": False}), family.known_keys)
    three_parts = Settings("config.json", {**stated, "use_mrope": True})
    with pytest.raises(UnsupportedError, match=r"use_mrope = True is not built for qwen2 \(known: False, None\)"):
        family.read_encoder(three_parts, Weights({}, ""))


@pytest.fixture
def folder_of_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another folder whose modules are families, for the time of a test."""
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    families._families.cache_clear()
    yield tmp_path
    families._families.cache_clear()
    sys.modules.pop("conch_export.families.data2vec", None)


def test_a_new_one_is_found_by_its_file_alone(folder_of_families: Path) -> None:
    config = {"model_type": "data2vec-text"}
    assert family_of(config) is None
    (folder_of_families / "data2vec.py").write_text(DATA2VEC)
    families._families.cache_clear()
    family = family_of(config)
    assert family is not None
    assert "layer_norm_eps" in family.keys
