"""Exports that cannot succeed: one line that names the fix, and a repository that is as it was, byte for byte."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conch.app import app
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from typer.testing import CliRunner, Result

from tests.full_disk import full_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports


def without_pooling(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").unlink()


def with_a_pooling_that_is_not_built(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "attention"}))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_an_unknown_architecture(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "abacus"}))


def with_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def with_truncated_settings(folder: Path) -> None:
    settings = folder / "config.json"
    settings.write_text(settings.read_text()[:-10])


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def with_a_tokenizer_of_another_kind(folder: Path) -> None:
    stated = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**stated, "pre_tokenizer": {"type": "Nonesuch"}}), "utf-8")


def with_a_module_that_is_nowhere(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    del modules[2]["path"]
    (folder / "modules.json").write_text(json.dumps(modules))


def with_prompts_in_a_list(folder: Path) -> None:
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": ["query: "]}))


def of_more_words_than_there_are_vectors(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "vocab_size": 40000}))


def with_a_tensor(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors, name = load_file(folder / "model.safetensors"), "encoder.layer.0.intermediate.dense.weight"
    save_file(tensors | {name: change(tensors[name])}, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_tensor_on_its_side(folder: Path) -> None:
    with_a_tensor(folder, lambda tensor: tensor.T.contiguous())


def with_a_tensor_of_another_width(folder: Path) -> None:
    with_a_tensor(folder, lambda tensor: tensor[:, :40].contiguous())


def with_a_quantized_tensor(folder: Path) -> None:
    with_a_tensor(folder, lambda tensor: tensor.to(torch.float8_e4m3fn))


def with_added_words(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["conchology", "molluscum"])
    tokenizer.save(str(folder / "tokenizer.json"))


def with_wrapped_tensors(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({f"0.auto_model.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")


def with_a_layer_of_another_width(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "3_Dense").mkdir()
    (folder / "3_Dense" / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 16, "bias": False}))
    save_file({"linear.weight": torch.ones(16, 32)}, folder / "3_Dense" / "model.safetensors")


def with_lexical_weights_of_another_width(folder: Path) -> None:
    save_file(torch.nn.Linear(32, 1).state_dict(), folder / "sparse_linear.safetensors")


def content_of(repository: Path) -> dict[str, bytes]:
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


@pytest.fixture
def repository(exports: Exports, tmp_path: Path) -> Path:
    """Holds a good export of the same name already."""
    return Path(shutil.copytree(exports("bert").repository, tmp_path / "repository"))


@pytest.fixture
def broken(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints.bert(), tmp_path / "broken"))


def exported(checkpoint: Path, repository: Path, precision: str) -> Result:
    """What the command makes of a checkpoint, in the place of the good export."""
    arguments = [str(checkpoint), "--name", "bert-fp32", "--repository", str(repository), "--precision", precision]
    return CliRunner(env={"COLUMNS": "400"}).invoke(app, ["export", *arguments])


@pytest.mark.parametrize(
    ("how", "fix"),
    [
        (without_pooling, "--pooling mean|cls|max|last"),
        (with_a_pooling_that_is_not_built, "pooling attention is not built (known: "),
        (pickled, "never fetched or loaded: look among the pull requests of its page"),
        (of_an_unknown_architecture, "add its family (docs/families.md)"),
        (with_truncated_weights, "truncated or damaged"),
        (with_truncated_settings, "fetch the checkpoint again"),
        (without_a_tokenizer, "save_pretrained"),
        (with_a_tokenizer_of_another_kind, "tokenizer.json is damaged, it should hold a tokenizer"),
        (
            with_a_module_that_is_nowhere,
            "modules.json, module 2 should state 'path', a text: fetch",
        ),
        (with_prompts_in_a_list, "states prompts = ['query: '], where an object should be"),
        (of_more_words_than_there_are_vectors, "the embedding table has the shape [30522, 48] where config.json"),
        (with_a_tensor_on_its_side, "encoder.layer.0.intermediate.dense.bias (96,) do not fit"),
        (with_a_tensor_of_another_width, "layer 0: feed-forward has the shape [96, 40]"),
        (with_a_quantized_tensor, "is of type F8_E4M3, which is not read (known: BF16, F16, F32, F64)"),
        (with_added_words, "has 30524 tokens, the embedding table 30522 rows"),
        (with_wrapped_tensors, "take '0.auto_model.' off the names of its tensors"),
        (with_a_layer_of_another_width, "layer 1 behind the encoder has the shape [16, 32] where config.json"),
        (with_lexical_weights_of_another_width, "the layer of lexical weights has the shape [1, 32] where config.json"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_it_names_the_fix_and_changes_nothing(
    repository: Path, broken: Path, how: Callable[[Path], None], fix: str
) -> None:
    how(broken)
    before = content_of(repository)
    result = exported(broken, repository, "fp32")
    assert result.exit_code == 1
    *steps, told = result.stderr.splitlines()
    assert all(step.endswith(" …") for step in steps)
    assert told.startswith("error: ")
    assert fix in told
    assert content_of(repository) == before


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("fp32", "cannot write to {repository}: File too large. The repository is as it was."),
        ("int8", "cannot write temporary files to {temporary}: File too large. Make room there, or set TMPDIR"),
    ],
    ids=["that of the repository", "that of temporary files, by which it is calibrated"],
)
def test_a_full_disk_is_told_and_changes_nothing(
    repository: Path, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, told: str
) -> None:
    before = content_of(repository)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with full_disk(1_000_000):
        result = exported(broken, repository, precision)
    assert result.exit_code == 1
    assert told.format(repository=repository, temporary=temporary) in result.stderr
    assert content_of(repository) == before
    assert not list(temporary.iterdir())
