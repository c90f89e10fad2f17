"""Every kind of graph answers a row without slots with NaN, and one whose tensors disagree, and harms no neighbour.

Each runs in a process of its own, because what this is about can end the process.
"""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export.model.description import Pooling
from conch_export.model.heads import Dense, Lexical, Pooled, Projection, Unit, Vocabulary
from conch_export.model.network import Linear
from conch_export.onnx.encoder import encoder_graph
from conch_export.onnx.file import file_graph
from conch_export.onnx.heads import (
    chunks_graph,
    lexical_graph,
    maxsim_graph,
    pooled_graph,
    projection_graph,
    vocabulary_graph,
)
from conch_export.onnx.layout import CHUNK_ENDS, ROW_LENGTHS, head_lengths, lengths_name, row_lengths
from conch_export.onnx.quantization.calibrate import calibrate
from conch_export.onnx.quantization.quantize import quantize

from tests.encoders import read_encoder
from tests.integration.export import run_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from conch_export.onnx.graph import Graph
    from numpy.typing import NDArray

    from tests.checkpoints import Checkpoints
    from tests.integration.export.conftest import Exports

    Feed = dict[str, NDArray[Any]]
    Answers = dict[str, NDArray[Any]]
    Run = Callable[[Path, Sequence[Feed]], list[Answers]]

FAMILIES = [
    "bert",
    "xlm_roberta",
    "mpnet",
    "modernbert",
    "qwen3",
    "mistral",
    "nomic_bert",
    "nomic_moe",
    "gte",
    "jina_bert",
    "gemma3",
    "deberta_v2",
    "t5",
]
ENCODERS = [f"{family} {precision}" for family in FAMILIES for precision in ("fp32", "int8")]
ENCODERS += ["bert with segments", "bert with masked tokens", "bert without chunks"]
ENCODERS += ["bert of the first token", "qwen3 of the last token", "deberta_v2 of the first token"]
ENCODERS += ["row by row fp32", "row by row int8"]
HEADS = [
    *(pooling.value for pooling in Pooling),
    "mean without prompts",
    "classifier",
    "maxsim",
    "maxsim with skipped tokens",
    "maxsim without first tokens",
]
HEADS += ["chunks", "projection", "lexical", "vocabulary fp32", "vocabulary int8"]
LONG = 170
"""Longer than rows that attend all at once."""
OF_128_TOKENS = ("bert", "xlm_roberta", "row by row")
EMPTY = {
    "alone": [0],
    "two alone": [0, 0],
    "among others": [3, 0, 4],
    "before and after": [0, 3, 0, 0, LONG, 0],
    "before one token": [0, 1],
}
HIDDEN, WORDS = 8, 50
every_encoder = pytest.mark.parametrize("kind", ENCODERS)
every_head = pytest.mark.parametrize("kind", HEADS)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes that have imported onnxruntime when they begin, which takes longer than all that they do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "onnxruntime"])
    return context


@pytest.fixture
def run(processes: ForkServerContext) -> Run:
    """Runs a graph on several feeds in a process of its own."""

    def run(graph: Path, feeds: Sequence[Feed]) -> list[Answers]:
        here, there = processes.Pipe(duplex=False)
        process = processes.Process(target=run_graph.answer, args=(str(graph), feeds, there))
        process.start()
        there.close()
        try:
            answers: list[Answers] = here.recv()
        except EOFError:
            process.join()
            pytest.fail(f"{graph} ended its process with {process.exitcode}, where -N is signal N")
        process.join()
        return answers

    return run


def encoder_at(kind: str, exports: Exports, checkpoints: Checkpoints, folder: Path) -> Path:
    """A graph of this kind, as a file."""
    name, _, variant = kind.partition(" ")
    if name == "row":
        return exports("roformer", kind.rsplit(maxsplit=1)[-1]).encoder
    encoder = read_encoder(getattr(checkpoints, name)())
    variants: dict[str, dict[str, Any]] = {
        "with segments": {"segments": True},
        "with masked tokens": {"masked": True},
        "without chunks": {"chunk_tokens": None},
        "of the first token": {"token": Pooling.CLS},
        "of the last token": {"token": Pooling.LAST},
    }
    chosen = variants.get(variant, {})
    graph = encoder_graph(encoder, **chosen)
    if variant == "int8":
        graph = quantize(graph, calibrate(encoder_graph(encoder, chunk_tokens=None), [encoder_feed([60] * 5)]))
    return graph.save(folder)


def head_at(kind: str, folder: Path) -> Path:
    """A head of random weights, as a file."""
    layer, word_layer = linear(5), linear(WORDS)
    if kind.startswith("vocabulary"):
        head = Vocabulary((Dense(linear(HIDDEN), "gelu"),), word_layer)
        graph = vocabulary_graph(HIDDEN, head)
        if kind.endswith("int8"):
            whole = vocabulary_graph(HIDDEN, head, tile_tokens=None)
            graph = quantize(graph, calibrate(whole, [head_feed([60] * 5)]))
        return graph.save(folder)
    graphs: dict[str, Callable[[], Graph]] = {
        "mean without prompts": lambda: pooled_graph(
            HIDDEN, Pooled(Pooling.MEAN, (Dense(layer), Unit()), pools_prompt=False), "embedding", 5
        ),
        "classifier": lambda: pooled_graph(HIDDEN, Pooled(Pooling.CLS, (Dense(layer, "tanh"),)), "score", 5),
        "chunks": lambda: chunks_graph(HIDDEN, Pooled(Pooling.MEAN, (Dense(layer), Unit())), 5),
        "maxsim": lambda: maxsim_graph(HIDDEN, Projection(), ()),
        "maxsim with skipped tokens": lambda: maxsim_graph(HIDDEN, Projection((Dense(layer),)), [3, 4]),
        "maxsim without first tokens": lambda: maxsim_graph(HIDDEN, Projection((Dense(layer),), skips_first=True), ()),
        "projection": lambda: projection_graph(HIDDEN, Projection((Dense(layer),)), 5),
        "lexical": lambda: lexical_graph(HIDDEN, Lexical(linear(1), WORDS, (1,))),
    }
    if kind in graphs:
        return graphs[kind]().save(folder)
    return pooled_graph(HIDDEN, Pooled(Pooling(kind), (Dense(layer), Unit())), "embedding", 5).save(folder)


def linear(outputs: int) -> Linear:
    random = np.random.default_rng(outputs)
    return Linear(random.standard_normal((HIDDEN, outputs), np.float32), random.standard_normal(outputs, np.float32))


def encoder_feed(lengths: Sequence[int]) -> Feed:
    """Rows of these lengths; what a row holds depends on its length alone."""
    ids = [np.random.default_rng(length).integers(5, 600, length) for length in lengths]
    flat = np.concatenate([*ids, np.zeros(0, np.int64)])
    matrices = {"input_ids": flat, "attention_mask": np.ones_like(flat)}
    return {**matrices, **row_lengths(lengths, "attention_mask")}


def encoder_feed_with(kind: str, lengths: Sequence[int]) -> Feed:
    """The same with what this kind takes beside it."""
    feed = encoder_feed(lengths)
    if kind == "bert with segments":
        feed |= {"token_type_ids": feed["attention_mask"], lengths_name("token_type_ids"): feed[ROW_LENGTHS]}
    return feed


def head_feed(lengths: Sequence[int]) -> Feed:
    """Rows of these lengths, each a request of its own."""
    ids = encoder_feed(lengths)["input_ids"] % WORDS
    vectors = [np.random.default_rng(length).standard_normal((length, HIDDEN), np.float32) for length in lengths]
    return {
        "token_embeddings": np.concatenate([*vectors, np.zeros((0, HIDDEN), np.float32)]).ravel(),
        "attention_mask": np.ones_like(ids),
        "input_ids": ids,
        "request_elements": np.array(lengths, np.int32),
        CHUNK_ENDS: np.array(lengths, np.int64),  # one chunk, the whole row
        lengths_name(CHUNK_ENDS): np.ones(len(lengths), np.int32),
        **head_lengths(lengths, HIDDEN),
    }


def by_row(answers: Answers, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
    """What each row got; words' weights as a vector over all words."""
    assert "error" not in answers, answers["error"]
    if "weights" in answers:
        assert len(answers["weights"]) == len(answers["indices"]) == len(lengths)
        dense = np.zeros((len(lengths), WORDS), np.float32)
        np.put_along_axis(dense, answers["indices"].astype(np.int64), answers["weights"], axis=1)
        return [np.where(np.isnan(w).all(), np.nan, row) for w, row in zip(answers["weights"], dense, strict=True)]
    values = next(iter(answers.values()))
    if "vectors" in answers or "token_embeddings" in answers:
        assert len(values) == sum(lengths)
        return np.split(values, np.cumsum(lengths)[:-1])
    assert len(values) == len(lengths)
    return list(values)


def assert_empty_rows_are_nan_and_others_as_without_them(
    run: Run, graph: Path, feed: Callable[..., Feed], longest: int = LONG
) -> None:
    layouts = [[min(length, longest) for length in lengths] for lengths in EMPTY.values()]
    without = [[length for length in lengths if length] or [7] for lengths in layouts]
    answers = run(graph, [feed(lengths) for lengths in [*layouts, *without]])
    for lengths, others, found, expected in zip(layouts, without, answers, answers[len(EMPTY) :], strict=False):
        rows = by_row(found, lengths)
        assert all(np.isnan(row).all() for row, length in zip(rows, lengths, strict=True) if not length)
        good = [row for row, length in zip(rows, lengths, strict=True) if length]
        for row, alone in zip(good, by_row(expected, others), strict=False):
            assert np.isfinite(alone).all()
            np.testing.assert_array_equal(row, alone)  # every bit


@every_encoder
def test_an_encoder_leaves_them_out(
    kind: str, run: Run, exports: Exports, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    graph = encoder_at(kind, exports, checkpoints, tmp_path)
    longest = 128 if kind.startswith(OF_128_TOKENS) else LONG
    assert_empty_rows_are_nan_and_others_as_without_them(
        run, graph, lambda rows: encoder_feed_with(kind, rows), longest
    )


@every_head
def test_a_head_leaves_them_out(kind: str, run: Run, tmp_path: Path) -> None:
    assert_empty_rows_are_nan_and_others_as_without_them(run, head_at(kind, tmp_path), head_feed)


LENGTHS, SECOND = [3, 5, 4], slice(3, 8)
OTHER = {"shorter": 2, "longer": 9, "empty": 0}


def with_second_row_of(feed: Feed, tensor: str, length: int) -> Feed:
    """The feed with another length of the second row in one tensor."""
    rows = feed[tensor].reshape(sum(LENGTHS), -1)
    filler = np.resize(rows, (length, rows.shape[1]))
    changed = np.concatenate([rows[: LENGTHS[0]], filler, rows[SECOND.stop :]]).ravel()
    lengths = feed[lengths_name(tensor)].copy()
    lengths.reshape(len(LENGTHS), -1)[1, 0] = length
    return {**feed, tensor: changed, lengths_name(tensor): lengths}


def assert_the_second_row_is_nan(run: Run, graph: Path, good: Feed, tensors: Sequence[str]) -> None:
    feeds = [with_second_row_of(good, tensor, length) for tensor in tensors for length in OTHER.values()]
    expected, *answers = run(graph, [good, *feeds])
    fine = by_row(expected, LENGTHS)
    for found in answers:
        first, second, third = by_row(found, LENGTHS)
        assert np.isnan(second).all()
        np.testing.assert_allclose(first, fine[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(third, fine[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kind",
    ["bert fp32", "bert int8", "bert with segments", "bert of the first token", "modernbert fp32", "row by row fp32"],
)
def test_an_encoder_refuses_rows_whose_mask_or_types_have_another_length(
    kind: str, run: Run, exports: Exports, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    others = ["attention_mask", *(["token_type_ids"] if kind == "bert with segments" else [])]
    graph = encoder_at(kind, exports, checkpoints, tmp_path)
    assert_the_second_row_is_nan(run, graph, encoder_feed_with(kind, LENGTHS), others)


@every_head
def test_a_head_refuses_rows_whose_vectors_or_ids_do_not_fit_the_mask(kind: str, run: Run, tmp_path: Path) -> None:
    others = ["token_embeddings", *(["input_ids"] if kind in ("lexical", "maxsim with skipped tokens") else [])]
    assert_the_second_row_is_nan(run, head_at(kind, tmp_path), head_feed(LENGTHS), others)


@every_head
def test_a_head_refuses_rows_without_a_token(kind: str, run: Run, tmp_path: Path) -> None:
    good = head_feed(LENGTHS)
    mask = good["attention_mask"].copy()
    mask[SECOND] = 0
    expected, found = run(head_at(kind, tmp_path), [good, {**good, "attention_mask": mask}])
    first, second, third = by_row(found, LENGTHS)
    if kind == "projection":
        assert (np.isnan(second).all(axis=1) | (second == 0).all(axis=1)).all()  # of pads
        assert np.isnan(second).any()
    else:
        assert np.isnan(second).all()
    np.testing.assert_allclose(first, by_row(expected, LENGTHS)[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(third, by_row(expected, LENGTHS)[2], rtol=0, atol=1e-5)


IMPOSSIBLE = {
    "that add up to more": [3, 5, 5],
    "that add up to less": [3, 5, 3],
    "that are negative": [3, -5, 4],
    "that are negative and add up": [20, -12, 4],
    "that are huge": [3, 5, 2**31 - 1],
}
"""No Triton says so: it takes lengths from the tensors themselves."""


@pytest.mark.parametrize("lengths", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("kind", ["bert fp32", "mean", "maxsim", "lexical", "projection"])
def test_lengths_are_refused(
    kind: str, lengths: list[int], run: Run, exports: Exports, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    encodes = kind in ENCODERS
    graph = encoder_at(kind, exports, checkpoints, tmp_path) if encodes else head_at(kind, tmp_path)
    good = encoder_feed(LENGTHS) if encodes else head_feed(LENGTHS)
    [answer] = run(graph, [{**good, ROW_LENGTHS: np.array(lengths, np.int32)}])
    assert "error" in answer


def test_a_file_is_asked_for_with_two_numbers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"0123456789")
    graph = file_graph("tokenizer.json", 10).save(tmp_path)
    feeds = [{"range": np.array(numbers, np.int64)} for numbers in ([], [1], [1, 2, 3], [[1, 2]], [7, 3], [3, 7])]
    *refused, backwards, good = run(graph, feeds)
    assert all("error" in answer for answer in refused)
    assert backwards["content"].tobytes() == b""
    assert good["content"].tobytes() == b"3456"
