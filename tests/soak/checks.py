"""What has to be true of the parts that many answers share: lists, rankings, terms, and numbers of any type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.soak.known import ANSWER_DIFFERENCE, Known, WrongAnswerError, agree, same
from tests.soak.models import MAXSIM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def expected_scores(
    known: Known, model: str, query: int, documents: Sequence[int], *, raw: bool = True
) -> dict[int, float]:
    """The score of each document, by its place in the request; a cross-encoder's as a probability unless `raw`."""
    if model == MAXSIM:
        return {index: known.late_score(query, place) for index, place in enumerate(documents)}
    scores = {index: float(known.pairs[query, place]) for index, place in enumerate(documents)}
    return scores if raw else {index: 1 / (1 + float(np.exp(-score))) for index, score in scores.items()}


def ranked(results: Sequence[Any], scores: dict[int, float], field: str, top: int | None = None) -> None:
    """Check that the best `top` are there, in order, with their scores."""
    best = sorted(scores.values(), reverse=True)[:top]
    same([result[field] for result in results], best, "scores, best first")
    same([scores[result["index"]] for result in results], best, "documents by rank")
    agree(len({result["index"] for result in results}), len(best), "documents")


def same_terms(found: dict[int, float], expected: dict[int, float]) -> None:
    """Check the weights of terms; one that is next to nothing may be left out."""
    terms = sorted(found.keys() | expected.keys())
    same([found.get(term, 0.0) for term in terms], [expected.get(term, 0.0) for term in terms], "weights of terms")


def openai_vectors(known: Known, places: Sequence[int], answer: Any, decoded: Callable[[Any], Any]) -> None:
    for place, item in zip(places, ordered(answer["data"], len(places)), strict=True):
        same(decoded(item["embedding"]), known.dense[place], "embedding")
    tokens = sum(len(known.ids[place]) for place in places)
    agree(answer["usage"], {"prompt_tokens": tokens, "total_tokens": tokens}, "usage")


def ordered(items: Sequence[Any], count: int) -> Sequence[Any]:
    agree([item["index"] for item in items], list(range(count)), "index")
    return items


def has_type(found: Sequence[float], vector: Any, number_type: str) -> None:
    """Check one vector against the definition of its type, with room for what two answers may differ by."""
    if number_type == "float":
        same(found, vector, "float")
        return
    if any(type(number) is not int for number in found):
        raise WrongAnswerError(f"{number_type}: not all are integers")
    numbers = np.array(found)
    if number_type in {"int8", "uint8"}:
        steps = numbers - 128 if number_type == "uint8" else numbers
        same(steps, 127 * vector, number_type, tolerance=0.5 + 127 * ANSWER_DIFFERENCE)
        return
    bytes_ = (numbers + 128 if number_type == "binary" else numbers).astype(np.uint8)
    bits = np.unpackbits(bytes_)
    agree(len(bits), len(vector), "bits")
    if ((bits == 1) != (vector >= 0))[np.abs(vector) > ANSWER_DIFFERENCE].any():
        raise WrongAnswerError(f"{number_type}: a bit is wrong")
