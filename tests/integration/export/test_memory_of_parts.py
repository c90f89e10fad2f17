"""The memory that is planned for a head or a tokenizer is that which it takes, within a quarter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export import Pooling, Precision
from conch_export.model.heads import Dense, Pooled, Vocabulary
from conch_export.onnx.heads import pooled_graph, vocabulary_graph
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize
from conch_export.planning.gateway import gateway_bytes
from conch_export.planning.memory import HeadFootprint
from tokenizers import Tokenizer, models

from tests.random_weights import linear, norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from conch_export.onnx.graph import Graph
    from numpy.typing import NDArray


def splade(words: int = 30522) -> Vocabulary:
    """The head of naver/splade-cocondenser-ensembledistil's shape."""
    return Vocabulary((Dense(linear(768, 768), "gelu"), norm(768)), linear(768, words))


def splade_of_fewer_words() -> Vocabulary:
    """What is rounded in little time."""
    return splade(words=8000)


def classifier() -> Pooled:
    """The head of BERT base as a cross-encoder."""
    return Pooled(Pooling.CLS, (Dense(linear(768, 768), "tanh"), Dense(linear(768, 1))))


def head_graph(head: Vocabulary | Pooled, precision: str) -> Graph:
    if isinstance(head, Pooled):
        return pooled_graph(768, head, "score", 1)
    graph = vocabulary_graph(768, head)
    if precision == "fp32":
        return graph
    lengths = {"row_lengths": np.array([64], np.int32), "token_embeddings_lengths": np.array([64, 768], np.int32)}
    vectors = np.random.default_rng(0).standard_normal(64 * 768, np.float32)
    ones = np.ones(64, np.int64)
    feed: dict[str, NDArray[Any]] = {"input_ids": ones, "token_embeddings": vectors, "attention_mask": ones, **lengths}
    return quantize(graph, calibrate(vocabulary_graph(768, head, tile_tokens=None), [feed]))


@pytest.mark.parametrize(
    ("head", "precision", "length", "rows"),
    [
        (splade, "fp32", 512, 1),
        (splade_of_fewer_words, "int8", 512, 8),
        (classifier, "fp32", 64, 1),
        (classifier, "fp32", 512, 8),
    ],
)
def test_so_it_is_for_heads(
    head: Callable[[], Vocabulary | Pooled], precision: str, length: int, rows: int, tmp_path: Path
) -> None:
    shape = head()
    graph = head_graph(shape, precision).save(tmp_path)
    command = [sys.executable, "-I", str(Path(__file__).with_name("head_peak.py")), str(graph)]
    sizes = map(str, (length, rows, 768))
    measured = int(subprocess.run([*command, *sizes], capture_output=True, check=True).stdout)
    footprint = HeadFootprint.of(shape, 768, Precision(precision))
    assert footprint.budget(length, rows).total == pytest.approx(measured, rel=0.25)


def unigram() -> Tokenizer:
    """80,000 tokens whose beginnings differ."""
    source = np.random.default_rng(0)
    words = {"".join(map(chr, source.integers(97, 123, source.integers(3, 9)))): -8.0 for _ in range(80_000)}
    return Tokenizer(models.Unigram([("<unk>", 0.0), *words.items()], unk_id=0))


def merges() -> Tokenizer:
    """90,000 tokens, all but the letters merged from two."""
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    pairs = [(one, other) for one in letters for other in letters]
    vocabulary = {token: number for number, token in enumerate([*letters, *(one + other for one, other in pairs)])}
    return Tokenizer(models.BPE(vocabulary, pairs))


@pytest.mark.parametrize("make", [unigram, merges])
def test_the_planned_memory_of_a_tokenizer_is_what_the_client_takes(
    make: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    make().save(str(tmp_path / "tokenizer.json"))
    code = """if True:
        import sys
        from pathlib import Path
        from conch_client._tokenization.tokenizer import TextTokenizer

        def resident():
            return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024

        content, before = Path(sys.argv[1]).read_bytes(), resident()
        tokenizer = TextTokenizer(content)
        print(resident() - before)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "tokenizer.json")]
    taken = int(subprocess.run(command, capture_output=True, check=True).stdout)
    nothing = gateway_bytes(json.dumps({"model": {"vocab": {}}}).encode())
    held = gateway_bytes((tmp_path / "tokenizer.json").read_bytes()) - nothing
    assert held == pytest.approx(taken, rel=0.25)
