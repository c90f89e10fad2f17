"""Reads an upstream's answers, and refuses one whose vectors are not as many as the texts, equally long and finite."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import orjson
from conch_client import Ranked, SparseVector

from conch_gateway.jobs import Answer, Vectors

Given = TypeVar("Given")


class NonsenseError(Exception):
    """The answer is not what was asked for; the message says why."""


def read_dense(content: bytes, count: int) -> Answer[list[Vectors]]:
    """Return float32 [dimension] for each text; raises NonsenseError."""
    answer = _read(content, count, _dense)
    _check_vectors(answer.given, axis=0)
    return answer


def read_late(content: bytes, count: int) -> Answer[list[Vectors]]:
    """Return float32 [tokens, dimension] for each text; raises NonsenseError."""
    answer = _read(content, count, _late)
    _check_vectors(answer.given, axis=1)
    return answer


def read_sparse(content: bytes, count: int) -> Answer[list[SparseVector]]:
    """Return term ids and weights for each text; raises NonsenseError."""
    answer = _read(content, count, _sparse)
    _check_finite("vectors have numbers that", (vector.values for vector in answer.given))
    return answer


def read_ranking(content: bytes, documents: int, count: int) -> Answer[list[Ranked]]:
    """Return the `count` best of the documents; raises NonsenseError."""
    with _reading():
        body = orjson.loads(content)
        ranked = [Ranked(_index(item), float(item["relevance_score"])) for item in body["results"]]
        answer = Answer(ranked, _tokens(body))
    if len({index for index, _ in ranked}) != count or len(ranked) != count:
        raise NonsenseError(f"it ranked {len(ranked)} documents instead of {count}")
    if not all(index < documents for index, _ in ranked):
        raise NonsenseError("it ranked documents that it was not sent")
    _check_finite("scores", ([score] for _, score in ranked))
    return answer


@contextmanager
def _reading() -> Iterator[None]:
    """Make one error of everything that JSON of another shape raises."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise NonsenseError("its answer cannot be read") from error


def _read(content: bytes, count: int, vector_of: Callable[[Any, dict[str, Any]], Given]) -> Answer[list[Given]]:
    with _reading():
        body = orjson.loads(content)
        items = sorted(body["data"], key=itemgetter("index"))
        places = list(map(_index, items))
    if places != list(range(count)):
        raise NonsenseError(f"it answered {len(items)} vectors for {count} texts")
    with _reading():
        return Answer([vector_of(item["embedding"], item) for item in items], _tokens(body))


def _dense(embedding: Any, _: dict[str, Any]) -> Vectors:
    return _of_dimensions(1, _floats(embedding))


def _late(embedding: Any, item: dict[str, Any]) -> Vectors:
    vectors = _floats(embedding)
    if isinstance(embedding, str):
        rows, dimension = item["shape"]
        if min(rows, dimension) < 1:  # numpy would work out a -1 by itself
            raise ValueError
        vectors = vectors.reshape(rows, dimension)
    return _of_dimensions(2, vectors)


def _sparse(embedding: Any, _: dict[str, Any]) -> SparseVector:
    indices, values = np.asarray(embedding["indices"]), _floats(embedding["values"])
    if not indices.size:
        indices = indices.astype(np.int64)
    ascend = indices.ndim == 1 and indices.dtype == np.int64 and (np.diff(indices, prepend=-1) > 0).all()
    if not ascend or indices.shape != values.shape:
        raise ValueError
    return SparseVector(indices, values)


def _floats(value: Any) -> Vectors:
    """Decode base64 of little-endian float32, or take lists of numbers; raises ValueError or TypeError."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    with np.errstate(over="ignore"):  # a number that does not fit becomes infinite, and is found so
        return np.asarray(value, np.float32)


def _of_dimensions(dimensions: int, vectors: Vectors) -> Vectors:
    if vectors.ndim != dimensions or not vectors.size:
        raise ValueError
    return vectors


def _check_vectors(vectors: list[Vectors], axis: int) -> None:
    """Check that they are finite, and equally long along one axis."""
    _check_finite("vectors have numbers that", vectors)
    if len({vector.shape[axis] for vector in vectors}) > 1:
        raise NonsenseError("its vectors are not of one length")


def _check_finite(what: str, rows: Iterable[Any]) -> None:
    if not all(np.isfinite(row).all() for row in rows):
        raise NonsenseError(f"its {what} are not finite")


def _index(item: dict[str, Any]) -> int:
    index = item["index"]
    if type(index) is not int or index < 0:
        raise ValueError
    return index


def _tokens(body: dict[str, Any]) -> int:
    tokens = (body.get("usage") or {}).get("total_tokens")
    return tokens if type(tokens) is int and tokens > 0 else 0
