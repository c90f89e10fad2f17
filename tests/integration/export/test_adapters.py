"""LoRA adapters are merged as PEFT merges them, are locked and bundled as checkpoints are, or are refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conch_export import Options, Precision, export, make_bundle
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.errors import SourceError, UndecidedError, UnsupportedError
from conch_export.model.description import EmbeddingModel
from conch_export.options import described, public_name
from conch_export.provenance import find
from conch_export.sources.lock import Lock
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.merging import Published, padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints
    from tests.hub import LocalHub

QUERY = r".*attention\.self\.query"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["query", "value", "dense"]},
    "rank-stabilised": {"target_modules": ["key"], "use_rslora": True},
    "by pattern": {"target_modules": ["query", "key"], "rank_pattern": {"query": 2}, "alpha_pattern": {QUERY: 64}},
    "with magnitudes": {"target_modules": ["query", "output.dense"], "use_dora": True},
    "of a table": {"target_modules": ["word_embeddings", "query"]},
    "with biases": {"target_modules": ["query"], "bias": "all"},
    "with a whole module": {"target_modules": ["query"], "modules_to_save": ["classifier"]},
}


def adapted(base: Path, folder: Path, kind: str = "plain", **stated: Any) -> Any:
    """The model with an adapter whose every number is random, saved in the folder."""
    torch.manual_seed(0)
    kinds: Any = AutoModelForSequenceClassification if "modules_to_save" in KINDS[kind] else AutoModel
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, **KINDS[kind], **stated}
    model = get_peft_model(kinds.from_pretrained(base), LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 1.0 if "magnitude" in name else 0.0, std=0.2)
    model.save_pretrained(str(folder))
    return model


def state(folder: Path, **changed: Any) -> Path:
    """The adapter's folder, its settings changed."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


@pytest.fixture
def adapter(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """An adapter of `Checkpoints.bert`."""
    folder = tmp_path / "finetuned"
    adapted(checkpoints.bert(), folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_the_one_that_peft_makes(checkpoints: Checkpoints, tmp_path: Path, kind: str) -> None:
    base = checkpoints.bert()
    merged = adapted(base, tmp_path / "adapter", kind).merge_and_unload().state_dict()
    weights = Checkpoint.of(find(str(base), None, tmp_path, adapter=str(tmp_path / "adapter"))).weights
    assert weights.low_ranks
    for name, tensor in merged.items():
        if "pooler" not in name and not name.endswith("position_ids"):
            found = weights.array(name.removeprefix("bert."))
            np.testing.assert_allclose(found, tensor.numpy(), rtol=0, atol=2e-6, err_msg=name)


def test_a_checkpoint_with_an_adapter_is_a_model_of_its_own(
    checkpoints: Checkpoints, tmp_path: Path, adapter: Path
) -> None:
    options = Options(str(checkpoints.bert()), tmp_path / "models", precision=Precision.FP32, adapter=str(adapter))
    exported = export(options)
    assert exported.description.name == public_name(options) == "bert-finetuned"
    (measured,) = exported.verification.values()
    assert "transformers" in measured.reference
    assert ", peft " in measured.reference
    report = json.loads((tmp_path / "models/bert-finetuned/report.json").read_text())
    assert report["adapter"] == "folder:finetuned"
    base = find(str(checkpoints.bert()), None, tmp_path / "models")
    assert report["weights_sha256"] not in {"", base.weights_sha256}
    # What the adapter changes is more than what the comparison would let pass.
    plain = Published(tmp_path / "models", "bert-finetuned").embedder(padded([[101, 7592, 102]]))[0]
    unadapted = AutoModel.from_pretrained(checkpoints.bert())(torch.tensor([[101, 7592, 102]])).last_hidden_state
    mean = torch.nn.functional.normalize(unadapted.mean(1)).detach().numpy()
    assert float((plain * mean).sum()) < 0.99


def test_the_base_may_have_been_saved_by_a_newer_library(checkpoints: Checkpoints, tmp_path: Path) -> None:
    adapted(checkpoints.llama(), tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    base = Path(shutil.copytree(checkpoints.llama(), tmp_path / "llama"))
    stated = json.loads((base / "config.json").read_text())
    theta, scaling = stated.pop("rope_theta"), stated.pop("rope_scaling")
    stated |= {"rope_parameters": {**scaling, "rope_theta": theta}}
    (base / "config.json").write_text(json.dumps(stated))
    options = Options(str(base), tmp_path / "models", precision=Precision.FP32, adapter=str(tmp_path / "adapter"))
    assert export(options).description.name == "llama-adapter"


def test_what_sentence_transformers_saved_as_an_adapter_is_exported_on_its_base(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    model = SentenceTransformer(str(checkpoints.bert()), device="cpu", prompts={"query": "ask: ", "document": ""})
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(target_modules=["query", "dense"], r=4, init_lora_weights=False))
    model.save_pretrained(str(tmp_path / "saved"))
    assert not (tmp_path / "saved/model.safetensors").exists()
    description, checkpoint = described(Options(str(tmp_path / "saved"), tmp_path / "models"))
    assert description.prompts == {"query": "ask: ", "document": ""}
    assert description.source.origin == f"folder:{checkpoints.bert().name}"
    query = model[0].auto_model.encoder.layer[0].attention.self.query
    delta = query.get_delta_weight("default")
    found = checkpoint.weights.array("encoder.layer.0.attention.self.query.weight")
    np.testing.assert_allclose(found, (query.weight + delta).detach().numpy(), rtol=0, atol=2e-6)


def put(folder: Path, name: str, tensor: torch.Tensor) -> None:
    """One more tensor in the adapter's file."""
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | {f"base_model.model.{name}": tensor}, path)


REFUSED: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "another kind": (lambda folder: state(folder, peft_type="LOHA"), UnsupportedError, "peft_type = 'LOHA'"),
    "a changed base": (lambda folder: state(folder, init_lora_weights="pissa"), UnsupportedError, "init_lora_weights"),
    "a new key": (lambda folder: state(folder, use_newest=True), UnsupportedError, "use_newest = True"),
    "activated": (lambda folder: state(folder, alora_invocation_tokens=[1]), UnsupportedError, "alora_invocation"),
    "another rank": (lambda folder: state(folder, r=8), SourceError, "states rank 8 for .*of rank 4"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), SourceError, "has no model.safet"),
    "a table of another size": (
        lambda folder: put(folder, "embeddings.word_embeddings.weight", torch.zeros(7, 48)),
        UnsupportedError,
        r"of the shape \[7, 48\] where the checkpoint's has \[30522, 48\]: .*longer vocabulary",
    ),
    "a module that nobody trained": (
        lambda folder: put(folder, "score.weight", torch.zeros(1, 48)),
        UnsupportedError,
        "'base_model.model.score.weight', which neither the checkpoint has nor modules_to_save names",
    ),
    "a quantized module": (
        lambda folder: put(state(folder, modules_to_save=["score"]), "score.weight", torch.zeros(1, 48).char()),
        UnsupportedError,
        "score.weight.* is of type I8, which is not read",
    ),
    "no magnitudes": (lambda folder: state(folder, use_dora=True), SourceError, "do not agree on use_dora"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_built_is_refused_by_name(
    checkpoints: Checkpoints, tmp_path: Path, adapter: Path, case: str
) -> None:
    spoil, error, told = REFUSED[case]
    spoil(adapter)
    options = Options(str(checkpoints.bert()), tmp_path / "models", adapter=str(adapter))
    with pytest.raises(error, match=told):
        _ = described(options)[1].weights
    assert not list((tmp_path / "models").glob("bert*"))


def test_an_adapter_of_another_architecture_is_refused(checkpoints: Checkpoints, tmp_path: Path, adapter: Path) -> None:
    options = Options(str(checkpoints.mpnet()), tmp_path / "models", adapter=str(adapter))
    with pytest.raises(UnsupportedError, match="which the checkpoint does not have"):
        _ = described(options)[1].weights


def test_an_adapter_without_a_base_that_is_here_says_how_to_name_one(tmp_path: Path, adapter: Path) -> None:
    state(adapter, base_model_name_or_path="")
    with pytest.raises(SourceError, match="conch export CHECKPOINT --adapter"):
        find(str(adapter), None, tmp_path)


@pytest.mark.parametrize("name", ["./base", "../base", "runs/of/base", "~/base"])
def test_a_base_by_a_path_that_leads_nowhere_from_here_is_refused(tmp_path: Path, adapter: Path, name: str) -> None:
    state(adapter, base_model_name_or_path=name)
    with pytest.raises(SourceError, match=f"an adapter of '{name}', a path relative to .*conch export CHECKPOINT"):
        find(str(adapter), None, tmp_path)


def test_the_lock_file_and_bundles_hold_both(
    hub: LocalHub, checkpoints: Checkpoints, tmp_path: Path, adapter: Path
) -> None:
    hub.push("someone/base", checkpoints.bert())
    state(adapter, base_model_name_or_path="someone/base")
    commit = hub.push("someone/adapter", adapter)
    # An adapter by itself is exported on its base.
    options = Options("someone/adapter", tmp_path / "models", precision=Precision.FP32)
    exported = export(options)
    assert exported.description.name == "adapter"
    assert exported.description.source.adapter == f"hub:someone/adapter@{commit}"
    locked = Lock.read(tmp_path / "models").sources
    assert {key: each.origin for key, each in locked.items()} == {
        "someone/base": "hub:someone/base",
        "someone/adapter": "hub:someone/adapter",
    }
    # Named beside its base it is the same.
    again = find("someone/base", None, tmp_path / "models", adapter=f"someone/adapter@{commit}")
    assert again.weights_sha256 == exported.description.source.weights_sha256
    bundle = make_bundle(["someone/adapter"], tmp_path / "models", tmp_path / "bundle.conch")
    assert set(bundle.lock.sources) == set(locked)
    assert "adapter" in bundle.model_names
    # A newer one is not taken, until the operator says so.
    newer = hub.push("someone/adapter", state(adapter, lora_alpha=7))
    assert find("someone/adapter", None, tmp_path / "models").adapter == f"hub:someone/adapter@{commit}"
    assert find("someone/adapter", None, tmp_path / "models", update_lock=True).adapter.endswith(newer)


def test_an_adapter_of_another_checkpoint_on_the_hub_is_refused(
    hub: LocalHub, checkpoints: Checkpoints, tmp_path: Path, adapter: Path
) -> None:
    hub.push("someone/base", checkpoints.bert())
    hub.push("someone/adapter", state(adapter, base_model_name_or_path="someone/else"))
    with pytest.raises(UnsupportedError, match="an adapter of someone/else, not of someone/base"):
        find("someone/base", None, tmp_path / "models", adapter="someone/adapter")


def test_one_of_a_checkpoints_own_adapters_has_to_be_chosen(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder, repository = str(checkpoints.jina_v3()), tmp_path / "models"
    with pytest.raises(UndecidedError, match="choose one with --adapter"):
        described(Options(folder, repository))
    with pytest.raises(UnsupportedError, match="no adapter 'retrieval', only"):
        described(Options(folder, repository, adapter="retrieval"))


@pytest.mark.parametrize("name", ["retrieval.query", "text-matching", "none"])
def test_its_prompt_is_that_of_the_chosen_one(checkpoints: Checkpoints, tmp_path: Path, name: str) -> None:
    options = Options(str(checkpoints.jina_v3()), tmp_path / "models", adapter=name)
    description, _ = described(options)
    assert isinstance(description, EmbeddingModel)
    stated = json.loads((checkpoints.jina_v3() / "config.json").read_text())["task_instructions"]
    assert description.name == f"jina-v3-{name}"
    assert description.prompts == ({} if name == "none" else {name: stated[name]})
    assert description.default_prompt_name == ("" if name == "none" else name)
    assert description.matryoshka == (48, 32, 16)


def test_tensors_of_adapters_that_config_json_does_not_list_are_refused(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints.jina_v3(), tmp_path / "jina"))
    stated = json.loads((folder / "config.json").read_text()) | {"lora_adaptations": None, "task_instructions": None}
    (folder / "config.json").write_text(json.dumps(stated))
    with pytest.raises(SourceError, match="lists no lora_adaptations, but there is a tensor"):
        _ = Checkpoint(folder).weights


def test_an_adapter_beside_weights_that_is_a_pickle_is_refused(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.bert(), tmp_path / "bert"))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UnsupportedError, match="beside the weights, but no adapter_model"):
        described(Options(str(folder), tmp_path / "models"))
