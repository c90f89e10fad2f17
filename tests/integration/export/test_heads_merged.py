"""Heads beyond pooling treat every row by itself: pads, neighbours and rows that are refused change nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conch_export import Options, Precision

from tests import head_checkpoints
from tests.exports import ONE_CORE, export_once
from tests.head_checkpoints import FEWER_WORDS, WORDS
from tests.merging import _feed, padded, session, vectors_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.merging import Request

    Answers = dict[str, NDArray[Any]]

random = np.random.default_rng(1)
ROWS = [random.integers(999, FEWER_WORDS, length).tolist() for length in (3, 60, 17, 1, 70, 2)]
HEADS = {
    "vocabulary": ("splade", "splade.sparse"),
    "lexical": ("m3", "m3-sparse.sparse"),
    "projection": ("m3", "m3-tokens.projection"),
    "maxsim of bge-m3": ("m3", "m3-maxsim.maxsim"),
    "projection of ColBERT": ("colbert", "colbert.projection"),
    "maxsim of ColBERT": ("colbert", "colbert-maxsim.maxsim"),
}
every_head = pytest.mark.parametrize("head", HEADS)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    checkpoints = {
        "splade": head_checkpoints.splade(folder / "splade"),
        "m3": head_checkpoints.bge_m3(folder / "m3"),
        "colbert": head_checkpoints.colbert(folder / "colbert"),
    }
    for name, checkpoint in checkpoints.items():
        late_interaction = True if name == "m3" else None
        chosen = Options(str(checkpoint), folder / "models", precision=Precision(request.param), plan=ONE_CORE)
        export_once(replace(chosen, late_interaction=late_interaction))
    return folder / "models"


@pytest.fixture(scope="module")
def ask(repository: Path) -> Callable[..., list[Answers]]:
    """Requests merged into one run of an encoder and a head; each one's answers."""
    opened = cache(lambda model: session(repository / model / "1" / "model.onnx"))

    def ask(head: str, *requests: Request) -> list[Answers]:
        name, model_behind = HEADS[head]
        feed = _feed(requests)
        encoder, graph = opened(f"{name}.encoder"), opened(model_behind)
        tokens = encoder.run(None, {t.name: feed[t.name] for t in encoder.get_inputs()})[0]
        feed |= vectors_for(feed, tokens)
        results = graph.run(None, {t.name: feed[t.name] for t in graph.get_inputs()})
        whole = dict(zip([t.name for t in graph.get_outputs()], results, strict=True))
        counts = [request.ids.size if "vectors" in whole else len(request.ids) for request in requests]
        ends = np.cumsum(counts)[:-1]
        cut = {output: np.split(value, ends) for output, value in whole.items()}
        return [{output: parts[i] for output, parts in cut.items()} for i in range(len(requests))]

    return ask


def values(answers: Answers, request: Request) -> NDArray[np.float32]:
    """One line a row, so that rows can be compared whatever their padding."""
    if "vectors" in answers:
        shaped = answers["vectors"].reshape(*request.ids.shape, -1)
        lines = [row[mask > 0].ravel() for row, mask in zip(shaped, request.mask, strict=True)]
    elif "weights" in answers:
        lines = []
        for indices, weights in zip(answers["indices"], answers["weights"], strict=True):
            dense = np.zeros(WORDS, np.float32)
            dense[indices] = weights
            lines.append(np.full_like(dense, np.nan) if np.isnan(weights).all() else dense)
    else:
        lines = list(answers["score"])
    width = max(map(len, lines))
    return np.stack([np.pad(line, (0, width - len(line))) for line in lines])


def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    width = min(found.shape[1], expected.shape[1])
    np.testing.assert_allclose(found[:, :width], expected[:, :width], rtol=0, atol=2e-6)


@every_head
def test_merging_and_padding_change_nothing(ask: Callable[..., list[Answers]], head: str) -> None:
    query = ROWS[2]
    together = padded([query, *ROWS], length=80, before=[5, *(80 - len(row) for row in ROWS)], fill=7)
    other = padded([[5, 6], [7]], length=4)
    answers, _ = ask(head, together, other)
    found = values(answers, together)[1:]
    for index, row in enumerate(ROWS):
        alone = padded([query, row])
        expected = values(ask(head, alone)[0], alone)[1:]
        close(found[index : index + 1], expected)


@every_head
def test_a_refused_row_is_nan_and_its_neighbours_are_untouched(ask: Callable[..., list[Answers]], head: str) -> None:
    good, bad = padded([ROWS[2], ROWS[0], [5, 6, 7]]), padded([ROWS[2], ROWS[0], [5, 10**6, 7]])
    elsewhere = padded([[3, 4], [6]], length=9)
    expected, far_expected = ask(head, good, elsewhere)
    found, far = ask(head, bad, elsewhere)
    assert np.isnan(values(found, bad)[2]).any()
    close(values(found, bad)[:2], values(expected, good)[:2])
    close(values(far, elsewhere), values(far_expected, elsewhere))


@every_head
@pytest.mark.parametrize("mask", [0, 2, 7, -1])
def test_any_mask_leaves_the_graph_running(ask: Callable[..., list[Answers]], head: str, mask: int) -> None:
    request = padded([[5, 6, 7], [8, 9]])
    request.mask[0] = mask
    beside = padded([[3, 4], [6]])
    found, far = ask(head, request, beside)
    assert len(next(iter(found.values()))) > 0
    close(values(far, beside), values(ask(head, beside)[0], beside))


@pytest.mark.parametrize("length", [20, 100])
def test_no_token_attends_to_masked_augmentation(ask: Callable[..., list[Answers]], length: int) -> None:
    text = np.random.default_rng(length).integers(999, 30000, length).tolist()  # in whatever order tests run
    plain, filled, otherwise = padded([text]), padded([text + [103] * 9]), padded([text + [2000] * 9])
    for request in (filled, otherwise):
        request.mask[0, length:] = 2
    head = "projection of ColBERT"
    expected, found, other = (
        ask(head, request)[0]["vectors"].reshape(*request.ids.shape, -1)[0] for request in (plain, filled, otherwise)
    )
    np.testing.assert_allclose(found[:length], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(other[:length], expected, rtol=0, atol=1e-6)
    assert np.abs(found[length:] - other[length:]).max() > 0.1
