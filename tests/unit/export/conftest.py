"""A plain embedding checkpoint without weights, and changes to its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conch_export import Description, Overrides, Precision
from conch_export.checkpoints.checkpoint import Checkpoint
from conch_export.checkpoints.describe import describe
from conch_export.sources import files
from conch_export.sources.source import Source

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterator

    Change = Callable[[Path], Any]

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 48,
    "max_position_embeddings": 128,
    "vocab_size": 600,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
DENSE = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
LSTM = {"idx": 3, "name": "3", "path": "3_LSTM", "type": "sentence_transformers.models.LSTM"}
FLAGS = dict.fromkeys(("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"), False)


def flags(*chosen: str) -> dict[str, bool]:
    """How sentence-transformers writes a pooling before version 5.7."""
    return {f"pooling_mode_{name}": value for name, value in {**FLAGS, **dict.fromkeys(chosen, True)}.items()}


def put(name: str, content: Any) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return change


def config(**changes: Any) -> Change:
    return put("config.json", {**CONFIG, **changes})


def words(*vocabulary: str) -> dict[str, Any]:
    """A tokenizer.json that knows these words, the first one for all others."""
    ids = {word: number for number, word in enumerate(vocabulary)}
    model = {"type": "WordLevel", "vocab": ids, "unk_token": vocabulary[0]}
    return {"version": "1.0", "added_tokens": [], "model": model}


def tokenizer_settings(**stated: Any) -> tuple[str, dict[str, Any]]:
    return "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **stated}


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


@pytest.fixture(scope="session", autouse=True)
def _packaged_files_hashed_once() -> Iterator[None]:
    """Files of installed packages do not change: hashing those of the default model, 90 MB, is half of many tests."""
    compute, known = files._digest, dict[tuple[Path, bytes], str]()

    def digest(path: Path, begun: hashlib._Hash) -> str:
        if "site-packages" not in path.parts:
            return compute(path, begun)
        return known.get((path, begun.digest())) or known.setdefault((path, begun.digest()), compute(path, begun))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_digest", digest)
        yield


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Description]:
    """Describes a plain embedding checkpoint after some changes to its files."""

    def describe_changed(*changes: Change, origin: str = "folder:x", **overrides: Any) -> Description:
        pooling = {"word_embedding_dimension": 48, **flags("mean_tokens")}
        plain = [config(), put("modules.json", MODULES), put("1_Pooling/config.json", pooling)]
        for change in (*plain, put("tokenizer.json", words("a", "b")), put(*tokenizer_settings()), *changes):
            change(tmp_path)
        source = Source(tmp_path, origin, "", "0" * 64, checkpoint_sha256="2" * 64)
        return describe(Checkpoint(tmp_path), source, "x", Precision.FP32, Overrides(**overrides))

    return describe_changed
