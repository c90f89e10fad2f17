"""Equal tokenizers are read once, and those that differ in whatever decides are told apart."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import SourceError, UnsupportedError
from conch_export.checkpoints.tokenizer import read_tokenizer
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.checkpoints import Checkpoints

Read = tuple[dict[str, Any], dict[str, Any], str]
"""Settings of the tokenizer, configuration and architecture of the model."""
GENERIC, BERT = {"tokenizer_class": "PreTrainedTokenizerFast"}, {"tokenizer_class": "BertTokenizer"}
CASED = {"do_lower_case": False}


@pytest.fixture
def place(checkpoints: Checkpoints, tmp_path: Path) -> Callable[..., Path]:
    """Puts the tokenizer of a checkpoint into a new folder, with other settings."""

    def made(name: str, settings: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(checkpoints.bert() / "tokenizer.json", folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "config.json").write_text(json.dumps({"model_type": "bert", **(config or {})}))
        return folder

    return made


def test_those_of_two_folders_are_read_once_whatever_the_models(
    place: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = PreTrainedTokenizerFast.from_pretrained
    read: list[Path] = []

    def counted(folder: Path, **options: Any) -> Any:
        read.append(folder)
        return load(folder, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "from_pretrained", counted)
    settings = {**GENERIC, "model_max_length": 77}
    first, second = place("first", settings), place("second", settings, {"hidden_size": 12})
    (second / "model.safetensors").write_bytes(b"weights")
    assert read_tokenizer(first, "bert", None) == read_tokenizer(second, "mpnet", None)
    assert read == [first]


def test_a_file_that_changes_within_a_moment_is_read_again(place: Callable[..., Path]) -> None:
    folder = place("changes", {**GENERIC, "model_max_length": 78})
    before, path = read_tokenizer(folder, "bert", None), folder / "tokenizer_config.json"
    moment = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("78", "87"))
    os.utime(path, ns=(moment, moment))
    assert (before.max_length, read_tokenizer(folder, "bert", None).max_length) == (78, 87)


@pytest.mark.parametrize(
    ("plain", "changed"),
    [
        pytest.param((CASED | GENERIC, {}, "bert"), (CASED | BERT, {}, "bert"), id="class"),
        pytest.param((CASED, GENERIC, "bert"), (CASED, BERT, "bert"), id="class of the model's configuration"),
        pytest.param((CASED, {}, "nobody's"), (CASED, {}, "bert"), id="class of the architecture"),
    ],
)
def test_those_of_another_class_are_others(place: Callable[..., Path], plain: Read, changed: Read) -> None:
    contents = []
    for name, (settings, config, kind) in {"plain": plain, "changed": changed}.items():
        contents.append(json.loads(read_tokenizer(place(name, settings, config), kind, None).content))
    assert [content["normalizer"]["lowercase"] for content in contents] == [True, False]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        pytest.param({"tokenizer.json": "{}}"}, SourceError, id="damaged"),
        pytest.param({"tokenizer_config.json": '{"use_fast": false}'}, UnsupportedError, id="refused"),
    ],
)
def test_each_error_names_its_own_folder(
    place: Callable[..., Path], damage: dict[str, str], error: type[Exception]
) -> None:
    for name in ("one", "two"):
        folder = place(name, GENERIC)
        for file, text in damage.items():
            (folder / file).write_text(text)
        with pytest.raises(error, match=str(folder)):
            read_tokenizer(folder, "bert", None)
